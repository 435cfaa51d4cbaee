"""An SMTP server for tests that keeps what it is given, and can answer late or refuse.

One thread a connection, standard library only.  What it took is in `messages`, in order.
"""

from __future__ import annotations

import email
import socketserver
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Delivery:
    """One accepted message: envelope, content, and when (Unix time) it was accepted."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    at: float

    @property
    def message_id(self) -> str:
        return str(email.message_from_bytes(self.content)["message-id"])


class SmtpSink:
    """Listens on 127.0.0.1:`port` from the start; use it as a context manager or call close()."""

    def __init__(self, port: int = 0) -> None:
        self.messages: list[Delivery] = []
        self.refuse_with: str | None = None
        """An SMTP answer, for example "451 try later", in place of taking recipients."""
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._in_data = 0
        self._change = threading.Condition()
        self._server = _Server(("127.0.0.1", port), _Connection)
        self._server.sink = self
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def hold(self) -> None:
        """From now on take the data of a message and keep its sender waiting for the answer."""
        self._may_answer.clear()

    def release(self) -> None:
        """Answer all who wait, and the next ones at once."""
        self._may_answer.set()

    def wait_for_held(self, count: int = 1, timeout: float = 20.0) -> None:
        """Until `count` senders have given their data and wait.  TimeoutError after `timeout` s."""
        with self._change:
            if not self._change.wait_for(lambda: self._in_data >= count, timeout):
                raise TimeoutError(f"{self._in_data} of {count} deliveries are held")

    def wait_for(self, count: int = 1, timeout: float = 20.0) -> list[Delivery]:
        """Until `count` messages were accepted.  TimeoutError after `timeout` seconds."""
        with self._change:
            if not self._change.wait_for(lambda: len(self.messages) >= count, timeout):
                raise TimeoutError(f"{len(self.messages)} of {count} messages were delivered")
            return list(self.messages)

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> SmtpSink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, sender: str, recipients: list[str], content: bytes) -> None:
        with self._change:
            self._in_data += 1
            self._change.notify_all()
        self._may_answer.wait()
        with self._change:
            self._in_data -= 1
            self.messages.append(Delivery(sender, tuple(recipients), content, time.time()))
            self._change.notify_all()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    sink: SmtpSink


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        try:
            self._converse()
        except OSError:
            pass  # the client went away: nothing was accepted

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode("ascii") + b"\r\n")

    def _converse(self) -> None:
        sender = ""
        recipients: list[str] = []
        self._say("220 sink ESMTP")
        while True:
            line = self.rfile.readline()
            if not line:
                return
            command = line.strip().decode("latin-1")
            verb = command.split(" ")[0].upper()
            if verb in ("EHLO", "HELO"):
                self._say("250 sink")
            elif verb == "MAIL":
                sender, recipients = _address(command), []
                self._say("250 ok")
            elif verb == "RCPT":
                if self.server.sink.refuse_with:
                    self._say(self.server.sink.refuse_with)
                else:
                    recipients.append(_address(command))
                    self._say("250 ok")
            elif verb == "DATA":
                self._say("354 go on")
                content = b""
                for line in iter(self.rfile.readline, b".\r\n"):
                    if not line:
                        return
                    content += line[1:] if line.startswith(b".") else line
                self.server.sink.take(sender, recipients, content)
                self._say("250 taken")
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")


def _address(command: str) -> str:
    return command.partition("<")[2].partition(">")[0]
