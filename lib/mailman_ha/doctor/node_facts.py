"""What a node says of itself in one line, so that the others can compare.

No node can look into another one. Each publishes a transient node attribute (`mailman-ha doctor
--publish`), and the doctor on any node reads them all from the CIB. Nothing in the line changes
from hour to hour, so publishing again costs the cluster nothing. Clocks are compared through the
file server, the clock that all nodes see: the line has this node's distance from it.
"""

from __future__ import annotations

import hashlib
import json

from mailman_ha import __version__
from mailman_ha.ocf.record import record
from mailman_ha.ocf.values import parse_integer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.mailman.installation import Installation

_FORM = "1"
_FIELDS = 12
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_NOTHING = "x"
_LONGEST = 255
_FLAGS = {"y": True, "n": False, _NOTHING: None}


@record
class NodeFacts:
    """A node's Mailman as the node sees it. None and '' stand for what it could not see.

    `paths` and `runners` are digests: equal where the nodes agree. `offset` is the file server's
    clock minus the node's, in whole seconds, where the locks lie on a server. `services`: how many
    of the machine's own ways to start Mailman are on. `day`: when this was seen (YYYYMMDD, UTC).
    """

    host: str
    suite: str = __version__
    release: str = ""
    uid: int | None = None
    gid: int | None = None
    paths: str = ""
    runners: str = ""
    offset: int | None = None
    synchronised: bool | None = None
    services: int = 0
    day: str = ""


def of_site(site: Installation | None) -> dict[str, object]:
    """Those facts that the installation tells, as fields of NodeFacts."""
    if site is None:
        return {}
    answer = site.answer
    return {
        "release": _word(answer.release),
        "uid": site.user.uid,
        "gid": site.user.gid,
        "paths": _digest([
            site.lock_dir, answer.queue_dir, answer.lists_dir, answer.var_dir, answer.pid_file,
            answer.master_lock, sorted(answer.queues),
        ]),
        "runners": _digest([sorted(answer.runners), sorted(answer.instances)]),
    }


def line(facts: NodeFacts) -> str:
    """The facts in one word of letters, digits, '.', '-' and '_'."""
    flag = next(word for word, state in _FLAGS.items() if state is facts.synchronised)
    return "_".join((
        _FORM, _word(facts.suite), facts.release or _NOTHING, _number(facts.uid),
        _number(facts.gid), facts.paths or _NOTHING, facts.runners or _NOTHING,
        _number(facts.offset), flag, str(facts.services), facts.day or _NOTHING,
        _word(facts.host),
    ))[:_LONGEST]


def parse(text: str) -> NodeFacts | None:
    """The facts of such a line; None for anything else, as another version may write."""
    fields = text.split("_")
    if len(fields) != _FIELDS or fields[0] != _FORM or not all(fields):
        return None
    if len(text) > _LONGEST or not all(_LETTERS.issuperset(field) for field in fields):
        return None
    try:
        return NodeFacts(
            suite=fields[1], release=_text(fields[2]), uid=_whole(fields[3]),
            gid=_whole(fields[4]), paths=_text(fields[5]), runners=_text(fields[6]),
            offset=_whole(fields[7]), synchronised=_FLAGS[fields[8]],
            services=parse_integer(fields[9]), day=_text(fields[10]), host=fields[11],
        )
    except (KeyError, ValueError):
        return None


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def _word(text: str) -> str:
    """`text` with what a node attribute may not hold, or the line's own '_', as '-'."""
    clean = "".join(one if one in _LETTERS else "-" for one in text[:100])
    return clean or "-"


def _number(number: int | None) -> str:
    return _NOTHING if number is None else str(number)


def _text(field: str) -> str:
    return "" if field == _NOTHING else field


def _whole(field: str) -> int | None:
    return None if field == _NOTHING else parse_integer(field)
