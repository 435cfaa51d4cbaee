"""Asking Mailman for its own configuration, once, with an answer that is kept.

Neither version's configuration can be parsed from outside (2.1's is a Python program, 3's paths
are templates), so a few lines run in Mailman's own interpreter, as Mailman's user, and print JSON.
2.1 takes 0.06 s, 3 about 1 s (contract, section 6); the answer is kept in the state directory
together with the identity of the configuration files, and of links on the way to the directory in
which Mailman works, so that it is asked again when they change.

Mailman 3 creates its directories when a configuration is loaded. The program below switches that
off (``create_paths``), so that asking on an unmounted share leaves nothing there.
"""

from __future__ import annotations

import hashlib
import json
import os

from mailman_ha.evidence import command
from mailman_ha.mailman.location import VERSION_21, Location
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARK = "mailman-ha-answer:"

#: No queue has more slices than this; a greater number would keep an agent counting for hours.
GREATEST_SLICES = 4096
#: Nor have all queues together more, for the same reason.
GREATEST_SLICES_IN_ALL = 1 << 16

#: Runs under Python 2 (real 2.1) and 3 (ports of it).
_ASK_21 = """
import os, sys
sys.path.insert(0, sys.argv[1])
import paths
from Mailman import mm_cfg as c
def quoted(text):
    return '"' + str(text).replace('\\\\', '\\\\\\\\').replace('"', '\\\\"') + '"'
queues = {}
for name in dir(c):
    if name.endswith('QUEUE_DIR') and name != 'QUEUE_DIR':
        queues[name[:-len('QUEUE_DIR')]] = getattr(c, name)
fields = [
    ('lock_dir', c.LOCK_DIR), ('queue_dir', c.QUEUE_DIR), ('lists_dir', c.LIST_DATA_DIR),
    ('var_dir', c.VAR_PREFIX), ('pid_file', c.PIDFILE), ('bin_dir', c.BIN_DIR),
    ('log_dir', c.LOG_DIR),
    ('master_lock', os.path.join(c.LOCK_DIR, getattr(c, 'MASTER_LOCK_FILE', 'master-qrunner'))),
    ('user', c.MAILMAN_USER), ('group', c.MAILMAN_GROUP), ('release', c.VERSION),
    ('config', c.__file__), ('prefix', c.PREFIX),
]
text = ['%s: %s' % (quoted(k), quoted(v)) for k, v in fields]
text.append('"queues": {%s}' % ', '.join(
    ['%s: %s' % (quoted(k), quoted(v)) for k, v in sorted(queues.items())]))
text.append('"instances": []')
text.append('"runners": [%s]' % ', '.join(
    ['[%s, %d]' % (quoted(n), s) for n, s in c.QRUNNERS]))
sys.stdout.write('\\nmailman-ha-answer:{%s}\\n' % ', '.join(text))
"""

_ASK_3 = """
import json, string, sys
from mailman.config import config
config.create_paths = False
from mailman.core.initialize import initialize_1
initialize_1(sys.argv[1])
from mailman.version import VERSION
runners = []
instances = []
queues = {}
for section in config.runner_configs:
    name = section.name.split('.', 1)[1]
    instances.append([name, int(section.instances)])
    if str(section.start).strip().lower() in ('yes', 'true', '1', 'on', 'enabled'):
        runners.append([name, int(section.instances)])
    path = section.path.strip()
    if path:
        known = dict(config.paths)
        known.update((key.lower(), value) for key, value in config.paths.items())
        queues[name] = string.Template(path).safe_substitute(known, name=name)
print('\\nmailman-ha-answer:' + json.dumps({
    'lock_dir': config.LOCK_DIR, 'queue_dir': config.QUEUE_DIR, 'lists_dir': config.LIST_DATA_DIR,
    'var_dir': config.VAR_DIR, 'pid_file': config.PID_FILE, 'bin_dir': config.BIN_DIR,
    'log_dir': config.LOG_DIR, 'master_lock': config.LOCK_FILE, 'release': VERSION,
    'config': config.filename, 'queues': queues, 'runners': runners, 'instances': instances}))
"""

#: Where 2.1's settings may be changed, under the prefix.
_CONFIG_FILES_21 = ("Mailman/mm_cfg.py", "Mailman/Defaults.py", "bin/mailmanctl")

_TEXTS = (
    "lock_dir", "queue_dir", "lists_dir", "var_dir", "pid_file", "bin_dir", "log_dir",
    "master_lock", "release", "config",
)


class CannotAsk(Exception):
    """Mailman did not give its configuration; the text says why."""


@record
class Answer:
    """What Mailman said of itself. Paths are absolute; `runners` pairs each runner that the
    master starts with its number of slices; `queues` maps a queue's name to its directory.
    `instances` pairs each runner of Mailman 3, started by the master or not, with the number of
    slices that its configuration gives it.

    `user` and `group` are empty for Mailman 3, which does not configure them, and `instances` is
    for 2.1. `working_dir` is the directory in which Mailman's processes work (contract, section 5)
    as the kernel names it, without links; empty while it has never been there.
    """

    lock_dir: str
    queue_dir: str
    lists_dir: str
    var_dir: str
    pid_file: str
    bin_dir: str
    log_dir: str
    master_lock: str
    release: str
    config: str
    runners: tuple[tuple[str, int], ...]
    queues: tuple[tuple[str, str], ...]
    user: str = ""
    group: str = ""
    instances: tuple[tuple[str, int], ...] = ()
    working_dir: str = ""


def ask(
    location: Location, state_dir: str, seconds: float, uid: int | None, gid: int | None
) -> Answer:
    """Mailman's configuration, from the kept answer where the files are still the same.

    Takes at most `seconds`. Runs as `uid`/`gid` where given (Mailman 3 refuses root). The share is
    looked at only until Mailman's working directory has been there once. Raises CannotAsk.
    """
    kept_at = kept_answer_path(location, state_dir)
    kept = _read_kept(kept_at) or {}
    answer = None
    if kept.get("signature") == _signature(location, kept.get("links")):
        answer = _kept_answer(kept)
    if answer is not None and answer.working_dir:
        return answer
    if answer is None:
        answer = _ask_now(location, seconds, uid, gid)
    place = location.prefix or answer.var_dir
    working_dir, links = _without_links(place)
    if os.path.isdir(place):
        answer = replace(answer, working_dir=working_dir)
    known = {
        "signature": _signature(location, links), "links": links, "answer": _as_json(answer),
    }
    if known != kept:
        _keep(kept_at, known)
    return answer


def last_answer(location: Location, state_dir: str) -> Answer | None:
    """The kept answer, however old, without a look at the installation (for `stop`). Its var_dir
    is the working directory, where that is known: by it processes are told."""
    answer = _kept_answer(_read_kept(kept_answer_path(location, state_dir)) or {})
    return answer and replace(answer, var_dir=answer.working_dir or answer.var_dir)


def kept_answer_path(location: Location, state_dir: str) -> str:
    """The file in which the answer of the installation at `location` is kept."""
    key = "\0".join((location.version, location.prefix, location.config, *location.bindirs))
    return os.path.join(
        state_dir, f"mailman-ha-config-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    )


def interpreter(program: str) -> list[str]:
    """The interpreter in the first line of `program`, with its options. Raises CannotAsk."""
    try:
        with open(program, "rb") as file:
            line = file.readline(512)
    except OSError as error:
        raise CannotAsk(f"{program} cannot be read: {error.strerror}") from error
    if not line.startswith(b"#!") or not line.endswith(b"\n") or b"\0" in line:
        raise CannotAsk(f"{program} does not begin with the name of its interpreter")
    words = os.fsdecode(line[2:]).split()
    if not words:
        raise CannotAsk(f"{program} does not begin with the name of its interpreter")
    return words


def _ask_now(location: Location, seconds: float, uid: int | None, gid: int | None) -> Answer:
    if location.version == VERSION_21:
        arguments = [
            *_bare(interpreter(location.starter)), "-c", _ASK_21, location.bindirs[0],
        ]
    else:
        arguments = [*interpreter(location.starter), "-c", _ASK_3, location.config]
    result = command.run(
        arguments, seconds, uid=uid, gid=gid,
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    if result.code != 0:
        whom = f" to uid {uid}, gid {gid} (parameters user, group)" if os.geteuid() == 0 else ""
        raise CannotAsk(
            f"{location.describe()} did not tell its configuration{whom}: {result.complaint()}"
        )
    text = result.output.decode("utf-8", "replace")
    _, mark, rest = text.rpartition(_MARK)
    if not mark:
        raise CannotAsk(f"{location.describe()} answered something else than its configuration")
    return parse(rest.partition("\n")[0])


def _bare(words: list[str]) -> list[str]:
    """An interpreter without options that would keep its modules from being found (-S)."""
    return [word for word in words if not word.startswith("-")]


def parse(text: str) -> Answer:
    """Check an answer. Raises CannotAsk, naming the field."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CannotAsk(f"Mailman's answer is no JSON: {escape(str(error), 200)}") from error
    if not isinstance(given, dict):
        raise CannotAsk("Mailman's answer is no JSON object")
    texts = {}
    for name in _TEXTS:
        value = given.get(name)
        if not isinstance(value, str) or not value or not _is_clean(value):
            raise CannotAsk(f"Mailman's answer lacks {name}")
        texts[name] = value
    for name in ("lock_dir", "queue_dir", "lists_dir", "var_dir", "pid_file", "master_lock"):
        texts[name] = _path(name, texts[name])
    for name in ("user", "group"):
        value = given.get(name, "")
        if not isinstance(value, str) or not _is_clean(value):
            raise CannotAsk(f"Mailman's {name} is no name: {escape(repr(value), 80)}")
        texts[name] = value
    working_dir = given.get("working_dir", "")
    texts["working_dir"] = _path("working_dir", working_dir) if working_dir else ""
    return Answer(
        **texts, runners=_counts(given, "runners"), queues=_queues(given),
        instances=_counts(given, "instances"),
    )


def _path(what: str, path: object) -> str:
    """`path` in its shortest form. Raises CannotAsk for what cannot be one."""
    if not isinstance(path, str) or not os.path.isabs(path) or not _is_clean(path):
        raise CannotAsk(f"Mailman's {what} is no absolute path: {escape(str(path), 200)}")
    return os.path.normpath(path)


def _is_clean(text: str) -> bool:
    """Whether `text` can be handed to the system and written into a file of lines."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text and "\n" not in text


def _counts(given: dict[str, Any], field: str) -> tuple[tuple[str, int], ...]:
    try:
        counts = tuple((name, count) for name, count in given[field])
    except (KeyError, TypeError, ValueError) as error:
        raise CannotAsk(f"Mailman's answer lacks its {field}") from error
    for name, count in counts:
        if not isinstance(name, str) or type(count) is not int or not _is_clean(name):
            raise CannotAsk(f"Mailman's answer lacks its {field}")
        if not 0 <= count <= GREATEST_SLICES:
            raise CannotAsk(f"Mailman's runner {escape(name, 80)} has {_shown(count)} slices")
    if sum(count for _, count in counts) > GREATEST_SLICES_IN_ALL:
        raise CannotAsk(f"Mailman's {field} have more than {GREATEST_SLICES_IN_ALL} slices")
    return counts


def _shown(number: int) -> str:
    """A number for a sentence, where it is one of few digits."""
    return str(number) if abs(number) < 10**12 else "far too many"


def _queues(given: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    queues = given.get("queues")
    if not isinstance(queues, dict) or not all(
        isinstance(path, str) and _is_clean(name) for name, path in queues.items()
    ):
        raise CannotAsk("Mailman's answer lacks its queues")
    return tuple((name, _path(f"queue {escape(name, 80)}", path)) for name, path in queues.items())


def _as_json(answer: Answer) -> dict[str, Any]:
    kept: dict[str, Any] = {name: getattr(answer, name) for name in _TEXTS}
    kept.update(
        runners=[list(pair) for pair in answer.runners],
        instances=[list(pair) for pair in answer.instances],
        queues=dict(answer.queues), user=answer.user, group=answer.group,
        working_dir=answer.working_dir,
    )
    return kept


def _without_links(path: str) -> tuple[str, list[str]]:
    """`path` as the kernel names it, and the symbolic links on the way there."""
    links: list[str] = []
    at, rest = "/", path.split("/")
    while rest and len(links) < 40:  # as many as the kernel follows
        at = os.path.normpath(os.path.join(at, rest.pop(0)))
        try:
            target = os.readlink(at)
        except OSError:
            continue  # no link, or not there
        links.append(at)
        rest = target.split("/") + rest
        at = "/" if target.startswith("/") else os.path.dirname(at)
    return at, links


def _signature(location: Location, links: object) -> list[list[Any]]:
    files = (
        [os.path.join(location.prefix, name) for name in _CONFIG_FILES_21]
        if location.version == VERSION_21
        else [location.config, location.starter]
    )
    signature: list[list[Any]] = []
    for path in files:
        try:
            status = os.stat(path)
        except OSError:
            signature.append([path, None])
        else:
            signature.append([path, status.st_ino, status.st_size, status.st_mtime_ns])
    for link in links if isinstance(links, list) else ():
        try:
            signature.append([link, os.readlink(str(link))])
        except (OSError, ValueError):
            signature.append([link, None])
    return signature


def _kept_answer(kept: dict[str, Any]) -> Answer | None:
    """The answer in what was kept; None where another version of this suite kept it."""
    try:
        return parse(json.dumps(kept.get("answer")))
    except CannotAsk:
        return None


def _read_kept(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
    except (OSError, ValueError, RecursionError):
        return None
    return kept if isinstance(kept, dict) else None


def _keep(path: str, kept: dict[str, Any]) -> None:
    partial = f"{path}.{os.getpid()}"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(kept, file)
    os.replace(partial, path)
