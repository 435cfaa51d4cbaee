"""The settings of an installation, under the names that Mailman 2.1 gives them.

The installer writes the first block; mm_cfg.py, the administrator's file, overrides any of it.
"""

import os

from Mailman.Version import VERSION  # noqa: F401

PYTHON = "@PYTHON@"
PREFIX = "@PREFIX@"
EXEC_PREFIX = PREFIX
VAR_PREFIX = "@VAR_PREFIX@"
MAILMAN_USER = "@USER@"
MAILMAN_GROUP = "@GROUP@"


def seconds(n):
    return n


def minutes(n):
    return n * 60


def hours(n):
    return n * 3600


def days(n):
    return n * 86400


LIST_DATA_DIR = os.path.join(VAR_PREFIX, "lists")
LOG_DIR = os.path.join(VAR_PREFIX, "logs")
LOCK_DIR = os.path.join(VAR_PREFIX, "locks")
DATA_DIR = os.path.join(VAR_PREFIX, "data")
PRIVATE_ARCHIVE_FILE_DIR = os.path.join(VAR_PREFIX, "archives", "private")
BIN_DIR = os.path.join(PREFIX, "bin")

QUEUE_DIR = os.path.join(VAR_PREFIX, "qfiles")
INQUEUE_DIR = os.path.join(QUEUE_DIR, "in")
OUTQUEUE_DIR = os.path.join(QUEUE_DIR, "out")
CMDQUEUE_DIR = os.path.join(QUEUE_DIR, "commands")
BOUNCEQUEUE_DIR = os.path.join(QUEUE_DIR, "bounces")
NEWSQUEUE_DIR = os.path.join(QUEUE_DIR, "news")
ARCHQUEUE_DIR = os.path.join(QUEUE_DIR, "archive")
SHUNTQUEUE_DIR = os.path.join(QUEUE_DIR, "shunt")
VIRGINQUEUE_DIR = os.path.join(QUEUE_DIR, "virgin")
BADQUEUE_DIR = os.path.join(QUEUE_DIR, "bad")
RETRYQUEUE_DIR = os.path.join(QUEUE_DIR, "retry")

PIDFILE = os.path.join(DATA_DIR, "master-qrunner.pid")
MASTER_LOCK_FILE = "master-qrunner"
MAILMAN_SITE_LIST = "mailman"

QRUNNERS = [
    ("ArchRunner", 1),
    ("BounceRunner", 1),
    ("CommandRunner", 1),
    ("IncomingRunner", 1),
    ("NewsRunner", 1),
    ("OutgoingRunner", 1),
    ("VirginRunner", 1),
    ("RetryRunner", 1),
]
QRUNNER_SLEEP_TIME = seconds(1)
QRUNNER_SAVE_BAD_MESSAGES = True

LIST_LOCK_LIFETIME = hours(5)
LIST_LOCK_TIMEOUT = seconds(10)
SYNC_AFTER_WRITE = False
REGISTER_BOUNCES_EVERY = minutes(15)
DELIVERY_RETRY_WAIT = hours(1)

DEFAULT_EMAIL_HOST = "lists.example.test"
SMTPHOST = "127.0.0.1"
SMTPPORT = 10025

# The stand-in's own: a file that takes the deliveries in place of an SMTP server, one JSON object
# a line; and config.pck renamed to .last (Mailman before 2.1.20) instead of linked.
STANDIN_DELIVERY_LOG = None
STANDIN_SAVE_RENAMES = False
