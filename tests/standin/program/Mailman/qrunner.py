"""The program qrunner: one runner on one slice for good, or each given runner once.

    qrunner --runner=IncomingRunner:0:4 [-s] [-o]

Exit status: 15 after SIGTERM (the master lets it go), 2 after SIGINT (the master starts it again),
1 where it crashed.  With -s errors go to logs/error.
"""

from __future__ import annotations

import getopt
import signal
import sys

from Mailman import log, mm_cfg, runners


def usage(text):
    sys.stderr.write(f"usage: qrunner [-o] [-s] -r RUNNER[:SLICE:SLICES] ...\n{text}\n")
    return 1


def main(arguments):
    once = under_master = False
    wanted = []
    try:
        options, rest = getopt.getopt(
            arguments, "hlor:vs", ["help", "list", "once", "runner=", "verbose", "subproc"]
        )
    except getopt.error as problem:
        return usage(problem)
    for option, value in options:
        if option in ("-h", "--help"):
            sys.stdout.write(__doc__)
            return 0
        if option in ("-l", "--list"):
            for name, _ in mm_cfg.QRUNNERS:
                sys.stdout.write("{} runs the {} qrunner\n".format(name[: -len("Runner")], name))
            return 0
        if option in ("-o", "--once"):
            once = True
        elif option in ("-s", "--subproc"):
            under_master = True
        elif option in ("-r", "--runner"):
            parts = value.split(":")
            try:
                number, slices = (1, 1) if len(parts) == 1 else (int(parts[1]), int(parts[2]))
                if len(parts) not in (1, 3):
                    raise ValueError(value)
            except (ValueError, IndexError):
                return usage(f"Bad runner specification: {value}")
            names = [parts[0] if parts[0].endswith("Runner") else parts[0] + "Runner"]
            if parts[0] == "All":
                names = [name for name, _ in mm_cfg.QRUNNERS]
            wanted.extend((name, number, slices) for name in names)
    if rest or not wanted:
        return usage("No runner name given.")
    if under_master:
        log.capture_stderr(f"qrunner({wanted[0][0]})", keep_real=False)
    for name, _, _ in wanted:
        if name not in runners.CLASSES:
            if not under_master:
                return usage(f"No such runner: {name}")
            sys.stderr.write(f"Cannot import runner module Mailman.Queue.{name}\n")
            return int(signal.SIGTERM)
    if len(wanted) > 1 and not once:
        return usage("The stand-in runs several runners only with -o.")
    status = 0
    for name, number, slices in wanted:
        status = _run(name, number, slices, once)
    return status


def _run(name, number, slices, once):
    runner = runners.CLASSES[name](number, slices)
    status = 0

    def stop(signal_number, _frame):
        nonlocal status
        runner.stop()
        status = signal_number
        log.log(
            "qrunner", f"{name} qrunner caught {signal.Signals(signal_number).name}.  Stopping."
        )

    def reopen(_signal_number, _frame):
        log.reopen()
        log.log("qrunner", f"{name} qrunner caught SIGHUP.  Reopening logs.")

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reopen)
    log.log("qrunner", f"{name} qrunner started.")
    runner.run(once)
    log.log("qrunner", f"{name} qrunner exiting.")
    return status
