"""Traffic: somebody outside who posts to a list and, like an MTA, does not give up.

A post is accepted when Mailman said so (Mailman 3: 250 of its LMTP server; 2.1: exit status 0 of
its program). Until then it is tried again; so is one whose connection broke before the answer, as
a queue must, which may make a duplicate. Once accepted, the post is Mailman's to deliver, and
`Tally` counts whether it was.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .client import Lab, LabFailure
from .sites import Entrance, PostRefused

RETRY_INTERVAL = 0.2  # seconds between two tries of one post


@dataclass(frozen=True)
class Tally:
    """What became of the posts: numbers of posts, not of copies, except `copies`."""

    accepted: int
    delivered: int
    lost: list[str]  # Message-IDs accepted and not delivered to every subscriber
    duplicated: list[str]  # Message-IDs somebody got more than once
    copies: int

    def all_delivered(self) -> bool:
        """Whether every accepted post reached every subscriber."""
        return not self.lost


class Traffic(threading.Thread):
    """Posts to one list at a steady rate until `finish`, over one or several connections.

    On each connection a post waits for the one before. With `limit`, so many posts are sent, and
    then no more.
    """

    def __init__(
        self,
        lab: Lab,
        list_address: str,
        subscribers: Sequence[str],
        rate: float = 5.0,
        label: str = "post",
        connections: int = 1,
        limit: int | None = None,
    ) -> None:
        """`rate` in posts a second; `label` makes Message-IDs and subjects tell their traffic."""
        super().__init__(name=f"traffic {label}", daemon=True)
        self.lab = lab
        self.list_address = list_address
        self.subscribers = list(subscribers)
        self.rate = rate
        self.label = f"{label}-{time.time_ns():x}"
        self.connections = connections
        self.limit = limit
        self.accepted: dict[str, float] = {}  # Message-ID → time accepted, in order
        self.in_doubt: set[str] = set()  # sent again because the answer was lost: maybe there twice
        self.refused = 0  # tries that did not end in 250
        self.last_reply = ""
        self.stopping = threading.Event()
        self.ended_by: BaseException | None = None
        self.turn = threading.Lock()
        self.number = 0
        self.due = 0.0

    def run(self) -> None:
        """Post until told to stop or the limit; the last posts are finished."""
        self.due = time.monotonic()
        workers = [
            threading.Thread(target=self.work, name=f"{self.name} {number}", daemon=True)
            for number in range(self.connections)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def work(self) -> None:
        """One connection's share of the posts."""
        try:
            self.lab.join_network()
            entrance = self.lab.site.entrance(self.lab)
            try:
                while (number := self.next_number()) is not None:
                    self.post(entrance, number)
            finally:
                entrance.close()
        except BaseException as trouble:
            self.ended_by = trouble
            self.stopping.set()

    def next_number(self) -> int | None:
        """The number of the next post, when it is due; None when there is none."""
        with self.turn:
            if self.limit is not None and self.number >= self.limit:
                return None
            if self.stopping.wait(max(0.0, self.due - time.monotonic())):
                return None
            self.due = max(self.due + 1 / self.rate, time.monotonic() - 1)
            self.number += 1
            return self.number

    def post(self, entrance: Entrance, number: int) -> None:
        """Try one post until it is accepted, or until the traffic is to stop."""
        identity = f"<{self.label}-{number}@outside.lab.example>"
        sender = self.subscribers[0]
        message = (
            f"From: {sender}\r\nTo: {self.list_address}\r\nMessage-ID: {identity}\r\n"
            f"Subject: {self.label} {number}\r\nDate: {time.strftime('%a, %d %b %Y %T +0000')}\r\n"
            f"\r\nThis is post number {number}.\r\n"
        )
        while not self.stopping.is_set():
            try:
                entrance.post(sender, self.list_address, message)
            except (PostRefused, LabFailure) as trouble:
                self.refused += 1
                self.last_reply = str(trouble)
                if isinstance(trouble, PostRefused) and trouble.in_doubt:
                    self.in_doubt.add(identity)
                self.stopping.wait(RETRY_INTERVAL)
            else:
                self.accepted[identity] = time.time()
                return

    def wait_accepted(self, count: int, timeout: float = 60) -> None:
        """Until this many more posts than now are accepted; LabFailure when they are not."""
        goal = len(self.accepted) + count
        self.lab.wait_until(
            f"{count} more posts accepted (last refusal: {self.last_reply or 'none'})",
            lambda: len(self.accepted) >= goal or not self.is_alive(),
            timeout,
        )

    def wait_all_accepted(self, timeout: float) -> None:
        """Until the limit is reached; LabFailure when it is not in so many seconds."""
        self.lab.wait_until(
            f"{self.limit} posts accepted (last refusal: {self.last_reply or 'none'})",
            lambda: not self.is_alive(),
            timeout,
        )

    def finish(self) -> None:
        """Stop posting. Raises what ended the traffic before its time, if anything did."""
        self.stopping.set()
        self.join()
        if self.ended_by is not None:
            raise self.ended_by

    def tally(self) -> Tally:
        """Compare what was accepted with what the sink has by now."""
        got: Counter[tuple[str, str]] = Counter()
        for delivery in self.lab.deliveries():
            got[(delivery["message_id"], delivery["recipient"])] += 1
        accepted = list(self.accepted)
        lost = [
            identity
            for identity in accepted
            if any(not got[(identity, subscriber)] for subscriber in self.subscribers)
        ]
        duplicated = sorted({
            identity
            for (identity, _), count in got.items()
            if count > 1 and identity.startswith(f"<{self.label}-")
        })
        copies = sum(
            count
            for (identity, _), count in got.items()
            if identity.startswith(f"<{self.label}-")
        )
        return Tally(len(accepted), len(accepted) - len(lost), lost, duplicated, copies)

    def wait_delivered(self, timeout: float = 60) -> Tally:
        """Until every accepted post is delivered, or the timeout; the tally then tells."""
        deadline = time.monotonic() + timeout
        tally = self.tally()
        while tally.lost and time.monotonic() < deadline:
            time.sleep(0.25)
            tally = self.tally()
        return tally

    @contextlib.contextmanager
    def flowing(self) -> Iterator[Traffic]:
        """Traffic for the length of a with block."""
        self.start()
        try:
            yield self
        finally:
            self.finish()
