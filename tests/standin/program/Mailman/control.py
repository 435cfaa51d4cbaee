"""The program mailmanctl and the master that it leaves behind (contract 2).

    mailmanctl [-n] [-u] [-s] [-q] start | stop | restart | reopen

The exit status is 0 for a refused start, for a stop with nothing to stop and for a command that
does not exist.  The master: takes the lock over from the starter, writes the pid file (never
removed), leads a session, starts one runner for each slice, and only then installs its signal
handlers.
"""

from __future__ import annotations

import getopt
import grp
import os
import pwd
import signal
import socket
import sys

from Mailman import log, mm_cfg, steps
from Mailman.LockFile import LockFile, TimeOutError
from Mailman.MailList import MailList, UnknownListError

LOCK_PATH = os.path.join(mm_cfg.LOCK_DIR, mm_cfg.MASTER_LOCK_FILE)
LOCK_LIFETIME = mm_cfg.days(1) + mm_cfg.hours(6)
REFRESH_EVERY = mm_cfg.days(1)
MAX_RESTARTS = 10


def usage(text):
    sys.stderr.write(f"usage: mailmanctl [-n] [-u] [-s] [-q] start|stop|restart|reopen\n{text}\n")
    return 1


def main(arguments):
    log.capture_stderr("mailmanctl", keep_real=True)
    restarts = checks_user = True
    forced = quiet = False
    try:
        options, commands = getopt.getopt(
            arguments, "hnusq", ["help", "no-restart", "run-as-user", "stale-lock-cleanup", "quiet"]
        )
    except getopt.error as problem:
        return usage(problem)
    for option, _ in options:
        if option in ("-h", "--help"):
            sys.stdout.write(__doc__)
            return 0
        restarts = restarts and option not in ("-n", "--no-restart")
        checks_user = checks_user and option not in ("-u", "--run-as-user")
        forced = forced or option in ("-s", "--stale-lock-cleanup")
        quiet = quiet or option in ("-q", "--quiet")
    if not commands:
        return usage("No command given.")
    if len(commands) > 1:
        return usage("Bad command: {}".format(", ".join(commands)))
    if checks_user and not become_mailman():
        return usage(f"Run this program as root or as the {mm_cfg.MAILMAN_USER} user, or use -u.")

    command = commands[0].lower()
    said = {
        "stop": "Shutting down Mailman's master qrunner",
        "restart": "Restarting Mailman's master qrunner",
        "reopen": "Re-opening all log files",
    }
    if command in said and not quiet:
        print(said[command])
    if command == "stop":
        signal_master(signal.SIGTERM)
    elif command == "restart":
        signal_master(signal.SIGINT)
    elif command == "reopen":
        signal_master(signal.SIGHUP)
    elif command == "start":
        return start(forced, quiet, restarts)
    return 0


def become_mailman():
    """Root turns into Mailman's user; anybody else must be that user."""
    user = pwd.getpwnam(mm_cfg.MAILMAN_USER)
    group = grp.getgrnam(mm_cfg.MAILMAN_GROUP).gr_gid
    if os.geteuid() == 0:
        others = [entry.gr_gid for entry in grp.getgrall() if mm_cfg.MAILMAN_USER in entry.gr_mem]
        os.setgroups([*others, group])
        os.setgid(group)
        os.setuid(user.pw_uid)
    return os.geteuid() == user.pw_uid


def signal_master(number):
    """Signal whatever process the pid file names: no look at lock, host or program."""
    try:
        with open(mm_cfg.PIDFILE) as file:
            pid = int(file.read().strip())
    except (OSError, ValueError) as problem:
        sys.stderr.write(
            f"PID unreadable in: {mm_cfg.PIDFILE}\n{problem}\nIs qrunner even running?\n"
        )
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError as problem:
        sys.stderr.write(f"No child with pid: {pid}\n{problem}\nStale pid file removed.\n")
        os.unlink(mm_cfg.PIDFILE)


def start(forced, quiet, restarts):
    try:
        # Held until the end, as the other program does: its lock object counts as number 0.
        site_list = MailList(mm_cfg.MAILMAN_SITE_LIST)  # noqa: F841
    except UnknownListError:
        sys.stderr.write(f"Site list is missing: {mm_cfg.MAILMAN_SITE_LIST}\n")
        return 1
    try:
        lock = take_master_lock(forced)
    except TimeOutError:
        say_why_refused(lock_owner())
        return 0
    pid = os.fork()
    if pid:
        if not quiet:
            print("Starting Mailman's master qrunner.")
        lock.transfer_to(pid)
        return 0
    steps.step("fork", "child", mm_cfg.MASTER_LOCK_FILE)
    lock.take_possession()
    Master(lock, restarts).run()
    return 0


def take_master_lock(forced):
    lock = LockFile(LOCK_PATH, LOCK_LIFETIME, lambda text: log.log("locks", text))
    try:
        lock.lock(0.1)
        return lock
    except TimeOutError:
        if not forced or lock_owner():
            raise
    lock.disown()
    name = lock_content()[2]
    os.unlink(LOCK_PATH)
    steps.step("clear", "unlink-lock", mm_cfg.MASTER_LOCK_FILE)
    os.unlink(os.path.join(mm_cfg.LOCK_DIR, name))
    steps.step("clear", "unlink-claim", mm_cfg.MASTER_LOCK_FILE)
    return take_master_lock(forced=False)


def lock_content():
    """(host, pid, claim's name) as the lock tells.  It takes the last field for the pid, also where
    that is a counter.  ValueError where there is none."""
    with open(LOCK_PATH) as file:
        name = os.path.basename(file.read().strip())
    fields = name.split(".")
    return ".".join(fields[1:-1]), int(fields[-1]), name


def lock_owner():
    """The other host's name; 1 for a living process of this host; 0 for a dead one.

    PermissionError where the pid belongs to another user's process.
    """
    host, pid, _ = lock_content()
    if host != socket.gethostname():
        return host
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return 0
    return 1


def say_why_refused(owner):
    begin = "The master qrunner lock could not be acquired"
    if owner == 1:
        text = f"{begin}: another master qrunner is already running.\n"
    elif owner == 0:
        text = f"{begin}: it is a stale master qrunner lock.  Try mailmanctl -s.\n"
    else:
        text = (
            f"{begin}: a process on some other host seems to hold it, and from here nobody can see "
            f"whether that is stale.\n\nLock file: {LOCK_PATH}\nLock host: {owner}\n\nExiting.\n"
        )
    sys.stderr.write(text)


class Master:
    """Starts the runners, starts them again when they die, and keeps the lock alive."""

    def __init__(self, lock, restarts):
        self._lock = lock
        self._restarts = restarts
        self._runners: dict = {}

    def run(self):
        steps.step("master", "possession")
        old_mask = os.umask(0o006)
        with open(mm_cfg.PIDFILE, "w") as file:
            file.write(f"{os.getpid()}\n")
        os.umask(old_mask)
        steps.step("master", "pid-file")
        os.setsid()
        devnull = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(devnull, descriptor)
        os.chdir(mm_cfg.PREFIX)
        os.umask(0o007)
        steps.step("master", "session")
        for name, slices in mm_cfg.QRUNNERS:
            for number in range(slices):
                self._start_runner(name, number, slices, 0)
        steps.step("master", "runners")
        signal.signal(signal.SIGALRM, self._refresh_lock)
        signal.alarm(REFRESH_EVERY)
        signal.signal(signal.SIGHUP, self._reopen_logs)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._restart)
        steps.step("master", "handlers")
        try:
            self._watch()
        finally:
            self._signal_runners(signal.SIGTERM)
            while _reap() is not None:
                pass
        self._lock.unlock(unconditionally=True)
        os._exit(0)

    def _start_runner(self, name, number, slices, restarts):
        pid = os.fork()
        if pid == 0:
            os.execl(
                mm_cfg.PYTHON,
                mm_cfg.PYTHON,
                os.path.join(mm_cfg.BIN_DIR, "qrunner"),
                f"--runner={name}:{number}:{slices}",
                "-s",
            )
        self._runners[pid] = (name, number, slices, restarts)

    def _watch(self):
        while True:
            ended = _reap()
            if ended is None:
                return
            pid, status = ended
            name, number, slices, restarts = self._runners.pop(pid)
            by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            by_exit = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
            again = self._restarts and signal.SIGTERM not in (by_signal, by_exit)
            log.log(
                "qrunner",
                f"Master qrunner detected subprocess exit\n(pid: {pid}, sig: {by_signal}, "
                f"sts: {by_exit}, class: {name}, slice: {number + 1}/{slices}) "
                + ("[restarting]" if again else ""),
            )
            if by_exit != signal.SIGINT:
                restarts += 1
            if restarts > MAX_RESTARTS:
                log.log(
                    "qrunner",
                    f"Qrunner {name} reached maximum restart limit of {MAX_RESTARTS}, "
                    "not restarting.",
                )
                again = False
            if again:
                self._start_runner(name, number, slices, restarts)

    def _signal_runners(self, number):
        for pid in list(self._runners):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def _refresh_lock(self, _number, _frame):
        # NotLockedError ends the wait, the runners and this process; the pid file stays.
        self._lock.refresh()
        signal.alarm(REFRESH_EVERY)

    def _reopen_logs(self, _number, _frame):
        log.reopen()
        self._signal_runners(signal.SIGHUP)
        log.log("qrunner", "Master watcher caught SIGHUP.  Re-opening log files.")

    def _stop(self, _number, _frame):
        self._signal_runners(signal.SIGTERM)
        log.log("qrunner", "Master watcher caught SIGTERM.  Exiting.")

    def _restart(self, _number, _frame):
        self._signal_runners(signal.SIGINT)
        log.log("qrunner", "Master watcher caught SIGINT.  Restarting.")


def _reap():
    """(pid, status) of the next child that ended; None where there is no child left."""
    try:
        return os.wait()
    except ChildProcessError:
        return None
