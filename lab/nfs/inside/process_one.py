"""Process 1 of a guest: runs programs for whoever asks on its port, and reaps orphans.

A connection is one request, a line of JSON. With `argv` a program is run (`input` text on its
standard input, `environment` added to the own) and answered with code, stdout and stderr. With
`serve` ("package.module:function") a child becomes that: it says its pid, and the function goes on
with the connection, lines of JSON either way. Imports of `serve` are made once, in this process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback

PORT = 7
sys.path[1:1] = ["/checkout", "/checkout/lib"]
sys.path.append("/libraries")


def reap(*_: object) -> None:
    """Collect whatever has ended; process 1 waits for no child by name."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def run(request: dict) -> dict:
    """A program's end."""
    done = subprocess.run(
        request["argv"],
        input=request.get("input", ""),
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **request.get("environment", {})},
        check=False,
    )
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def handle(connection: socket.socket, request: dict) -> None:
    """In a child: carry out one request."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection.makefile("rw", encoding="utf-8") as line:
        if "argv" in request:
            print(json.dumps(run(request)), file=line, flush=True)
            return
        print(json.dumps({"pid": os.getpid()}), file=line, flush=True)
        module, _, function = request["serve"].partition(":")
        getattr(importlib.import_module(module), function)(line, *request.get("arguments", ()))


def main() -> None:
    """Serve until the power goes."""
    signal.signal(signal.SIGCHLD, reap)
    listener = socket.create_server(("", PORT), backlog=64)
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                with connection.makefile("r", encoding="utf-8") as line:
                    request = json.loads(line.readline())
                if "serve" in request:
                    importlib.import_module(request["serve"].partition(":")[0])
            except (OSError, ValueError, ImportError):
                traceback.print_exc()
                continue
            if os.fork() == 0:
                try:
                    listener.close()
                    handle(connection, request)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)


if __name__ == "__main__":
    main()
