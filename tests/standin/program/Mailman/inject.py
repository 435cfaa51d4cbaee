"""The program inject: put a message, from a file or standard input, into a queue.

inject -l LIST [-q QUEUE] [FILE]
"""

from __future__ import annotations

import getopt
import os
import sys

from Mailman import mm_cfg
from Mailman.Switchboard import Switchboard


def main(arguments):
    try:
        options, files = getopt.getopt(arguments, "hl:q:", ["help", "listname=", "queue="])
    except getopt.error as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    name = None
    queue = mm_cfg.INQUEUE_DIR
    for option, value in options:
        if option in ("-l", "--listname"):
            name = value.lower()
        elif option in ("-q", "--queue"):
            queue = os.path.join(mm_cfg.QUEUE_DIR, value)
    if name is None or not os.path.isdir(os.path.join(mm_cfg.LIST_DATA_DIR, name)):
        sys.stderr.write(f"No such list: {name}\n")
        return 1
    if files:
        with open(files[0], "rb") as file:
            message = file.read()
    else:
        message = sys.stdin.buffer.read()
    Switchboard(queue).enqueue(message, {"listname": name, "tolist": 1})
    return 0
