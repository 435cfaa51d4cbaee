"""The world outside: an SMTP server that takes every message and notes who got it.

One JSON line for each recipient of each message: `message_id`, `recipient`, `time` (seconds since
the epoch), `subject`. The line is on disk before the sender gets its 250, so a message that
Mailman saw accepted is never missing here.
"""

from __future__ import annotations

import asyncio
import json
import time
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope


class Recorder:
    """aiosmtpd's handler: writes the lines."""

    def __init__(self, file: Path) -> None:
        """Append to `file`."""
        self.lines = open(file, "a", buffering=1, encoding="utf-8")  # noqa: SIM115

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        """Called by aiosmtpd for each message."""
        content = envelope.content or b""
        if isinstance(content, str):
            content = content.encode("utf-8", "replace")
        header = BytesHeaderParser().parsebytes(content)
        for recipient in envelope.rcpt_tos:
            entry = {
                "message_id": str(header.get("Message-ID", "")).strip(),
                "recipient": recipient,
                "time": time.time(),
                "subject": str(header.get("Subject", "")),
            }
            self.lines.write(json.dumps(entry) + "\n")
        return "250 taken"


async def open_sink(address: str, port: int, file: Path) -> asyncio.AbstractServer:
    """Listen on address:port and record into `file`."""
    recorder = Recorder(file)
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: SMTP(recorder, hostname="outside.lab.example", loop=loop), address, port
    )
