"""The queue runners: what each does with an entry, and the loop they share.

Only what others can observe is Mailman's: which queue is read, which lock is taken with which
patience, which queue is written, when a signal is obeyed.  The mail itself passes unchanged.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import time
import traceback

from Mailman import MailList, mm_cfg, steps
from Mailman.LockFile import TimeOutError
from Mailman.log import log
from Mailman.Switchboard import Switchboard


class Runner:
    """Works through one slice of one queue until it is told to stop."""

    queue = ""

    def __init__(self, number, slices):
        self.stopped = False
        self.sleep_seconds = mm_cfg.QRUNNER_SLEEP_TIME
        self.switchboard = Switchboard(self.queue, number, slices, recovers=True)
        self.shunt = Switchboard(mm_cfg.SHUNTQUEUE_DIR)
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        self._bounces = os.path.join(mm_cfg.DATA_DIR, f"bounce-events-{os.getpid():05d}.pck")
        self._bounces_queued = 0
        self._register_at = time.time() + mm_cfg.REGISTER_BOUNCES_EVERY

    def stop(self):
        self.stopped = True

    def run(self, once=False):
        """Work until stop().  `once`: one entry at most, as -o of the real one means it."""
        # A signal ends the nap: else a stop would take as long as the runner's longest sleep.
        old_wake = signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        try:
            while True:
                worked = self._one_pass(once)
                self.do_now_and_then()
                if self.stopped or once:
                    break
                if not worked:
                    self.nap()
        finally:
            signal.set_wakeup_fd(old_wake)
            self.clean_up()

    def nap(self):
        if self.sleep_seconds > 0:
            ready, _, _ = select.select([self._wake_reader], [], [], self.sleep_seconds)
            if ready:
                os.read(self._wake_reader, 4096)

    def _one_pass(self, once):
        bases = self.switchboard.entries()
        for base in bases:
            try:
                message, data = self.switchboard.dequeue(base)
            except Exception as problem:
                log("error", f"Uncaught runner exception: {problem}")
                log("error", f"Skipping and preserving unparseable message: {base}")
                self.switchboard.finish(base, preserve=mm_cfg.QRUNNER_SAVE_BAD_MESSAGES)
                continue
            try:
                self._one_entry(message, data)
                self.switchboard.finish(base)
            except Exception as problem:
                self._put_aside(base, message, data, problem)
            self.do_now_and_then()
            if self.stopped or once:
                break
        return len(bases)

    def _put_aside(self, base, message, data, problem):
        log("error", f"Uncaught runner exception: {problem}\n{traceback.format_exc()}")
        try:
            data["whichq"] = self.queue
            log("error", f"SHUNTING: {self.shunt.enqueue(message, data)}")
            self.switchboard.finish(base)
        except Exception as worse:
            log("error", f"SHUNTING FAILED, preserving original entry: {base}\n{worse}")
            self.switchboard.finish(base, preserve=True)

    def _one_entry(self, message, data):
        name = data.get("listname") or mm_cfg.MAILMAN_SITE_LIST
        try:
            mailing_list = MailList.MailList(name)
        except (MailList.UnknownListError, MailList.CorruptListError) as problem:
            log("error", f"Dequeuing message destined for missing list: {name}\n{problem}")
            self.shunt.enqueue(message, data)
            return
        if self.dispose(mailing_list, message, data):
            self.switchboard.enqueue(message, data)

    def dispose(self, mailing_list, message, data):
        """Deal with one entry; true where it must stay in the queue."""
        raise NotImplementedError

    def do_now_and_then(self):
        """After every entry and every pass."""

    def clean_up(self):
        """The loop has ended."""

    # Bounces: recorded in a file of this process's own, registered under the list lock later.

    def record_bounce(self, name, address):
        with open(self._bounces, "ab") as file:
            pickle.dump((name, address, time.localtime()[:3]), file, 1)
            file.flush()
            os.fsync(file.fileno())
        self._bounces_queued += 1

    def register_bounces_when_due(self):
        if self._bounces_queued and time.time() >= self._register_at:
            self.register_bounces()
        if time.time() >= self._register_at:
            self._register_at = time.time() + mm_cfg.REGISTER_BOUNCES_EVERY

    def register_bounces(self):
        """Needs each list's lock and waits for it without limit: a dead holder hangs a stop."""
        if not self._bounces_queued:
            return
        by_list: dict = {}
        with open(self._bounces, "rb") as file:
            while True:
                try:
                    name, address, day = pickle.load(file)
                except EOFError:
                    break
                by_list.setdefault(name, []).append((address, day))
        for name, bounced in by_list.items():
            mailing_list = MailList.MailList(name)
            mailing_list.lock()
            try:
                mailing_list.settings.setdefault("bounce_info", {}).update(bounced)
                mailing_list.save()
            finally:
                mailing_list.unlock()
        os.unlink(self._bounces)
        self._bounces_queued = 0


class LockingRunner(Runner):
    """Works under the list lock: tries for LIST_LOCK_TIMEOUT, else the entry stays queued."""

    def dispose(self, mailing_list, message, data):
        try:
            mailing_list.lock(timeout=mm_cfg.LIST_LOCK_TIMEOUT)
        except TimeOutError:
            return True
        try:
            self.process(mailing_list, message, data)
            mailing_list.save()
        finally:
            mailing_list.unlock()
        return False

    def process(self, mailing_list, message, data):
        raise NotImplementedError


class IncomingRunner(LockingRunner):
    queue = mm_cfg.INQUEUE_DIR

    def process(self, mailing_list, message, data):
        members = sorted(mailing_list.settings.get("members", ()))
        data["recips"] = data.get("recips") or members
        Switchboard(mm_cfg.ARCHQUEUE_DIR).enqueue(message, data)
        Switchboard(mm_cfg.OUTQUEUE_DIR).enqueue(message, data)
        mailing_list.settings["post_id"] = mailing_list.settings.get("post_id", 1.0) + 1


class VirginRunner(IncomingRunner):
    queue = mm_cfg.VIRGINQUEUE_DIR

    def process(self, mailing_list, message, data):
        Switchboard(mm_cfg.OUTQUEUE_DIR).enqueue(message, data)


class ArchRunner(LockingRunner):
    queue = mm_cfg.ARCHQUEUE_DIR

    def process(self, mailing_list, message, data):
        mailbox = os.path.join(mm_cfg.PRIVATE_ARCHIVE_FILE_DIR, mailing_list.name + ".mbox")
        os.makedirs(mailbox, exist_ok=True)
        with open(os.path.join(mailbox, mailing_list.name + ".mbox"), "ab") as file:
            file.write(b"From stand-in " + time.asctime().encode() + b"\n" + message + b"\n\n")


class CommandRunner(LockingRunner):
    queue = mm_cfg.CMDQUEUE_DIR

    def process(self, mailing_list, message, data):
        log("vette", f"a command to {mailing_list.name} is taken and not carried out")


class NewsRunner(Runner):
    queue = mm_cfg.NEWSQUEUE_DIR

    def dispose(self, mailing_list, message, data):
        log("error", f"no news server for {mailing_list.name}")
        return False


class BounceRunner(Runner):
    queue = mm_cfg.BOUNCEQUEUE_DIR

    def dispose(self, mailing_list, message, data):
        for address in data.get("bounced") or ["unknown"]:
            self.record_bounce(mailing_list.name, address)
        return False

    def do_now_and_then(self):
        self.register_bounces_when_due()

    def clean_up(self):
        self.register_bounces()


class OutgoingRunner(BounceRunner):
    queue = mm_cfg.OUTQUEUE_DIR

    def __init__(self, number, slices):
        super().__init__(number, slices)
        self._said = False

    def dispose(self, mailing_list, message, data):
        if time.time() < data.get("deliver_after", 0):
            return True
        mailing_list.load()
        recipients = data.get("recips") or []
        sender = f"{mailing_list.name}-bounces@{mm_cfg.DEFAULT_EMAIL_HOST}"
        try:
            refused = deliver(sender, recipients, message) if recipients else {}
        except OSError as problem:
            if not self._said:
                log(
                    "error",
                    f"Cannot connect to SMTP server {mm_cfg.SMTPHOST} on port {mm_cfg.SMTPPORT}: "
                    f"{problem}",
                )
                self._said = True
            self.nap()
            return True
        self._said = False
        steps.step("deliver", "sent", mailing_list.name)
        log(
            "smtp",
            f"{mailing_list.name}: {len(recipients)} recipients, {len(refused)} refused",
        )
        later = sorted(address for address, code in refused.items() if code < 500)
        for address in sorted(set(refused) - set(later)):
            self.record_bounce(mailing_list.name, address)
        if later:
            again = dict(data, recips=later, deliver_after=time.time() + mm_cfg.DELIVERY_RETRY_WAIT)
            Switchboard(mm_cfg.RETRYQUEUE_DIR).enqueue(message, again)
        return False


class RetryRunner(Runner):
    queue = mm_cfg.RETRYQUEUE_DIR

    def __init__(self, number, slices):
        super().__init__(number, slices)
        self.sleep_seconds = mm_cfg.minutes(15)

    def dispose(self, mailing_list, message, data):
        if time.time() < data.get("deliver_after", 0):
            return True
        Switchboard(mm_cfg.OUTQUEUE_DIR).enqueue(message, data)
        return False

    def _one_pass(self, once):
        # Entries that wait stay queued without end; the pass must not count as work done.
        super()._one_pass(once)
        return 0


def deliver(sender, recipients, message):
    """Send one message; answers {refused address: SMTP code}.  OSError where no server answers."""
    if mm_cfg.STANDIN_DELIVERY_LOG:
        line = json.dumps(
            {
                "time": time.time(),
                "pid": os.getpid(),
                "sender": sender,
                "recipients": recipients,
                "message": message.decode("utf-8", "replace"),
            }
        )
        with open(mm_cfg.STANDIN_DELIVERY_LOG, "a") as file:
            file.write(line + "\n")
        return {}
    import smtplib  # costly, and most runners never send

    connection = None
    try:
        connection = smtplib.SMTP(mm_cfg.SMTPHOST, mm_cfg.SMTPPORT)
        refused = connection.sendmail(sender, recipients, message)
        return {address: answer[0] for address, answer in refused.items()}
    except smtplib.SMTPRecipientsRefused as problem:
        return {address: answer[0] for address, answer in problem.recipients.items()}
    except smtplib.SMTPResponseException as problem:
        return dict.fromkeys(recipients, problem.smtp_code)
    except smtplib.SMTPException:
        return dict.fromkeys(recipients, 451)
    finally:
        if connection is not None:
            try:
                connection.quit()
            except (OSError, smtplib.SMTPException):
                pass


CLASSES = {
    runner.__name__: runner
    for runner in (
        ArchRunner,
        BounceRunner,
        CommandRunner,
        IncomingRunner,
        NewsRunner,
        OutgoingRunner,
        VirginRunner,
        RetryRunner,
    )
}
