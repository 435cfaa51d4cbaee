"""Real list directories of 2.1 in which somebody hostile has written: half-finished saves that are
none, links, FIFOs and directories in their place."""

from __future__ import annotations

import contextlib
import os
import pickle
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from mailman_ha.agents.list_lock_janitor import save_sweep
from mailman_ha.locks.grammar import FORMAT_21

from tests.fuzz.surface import Surface, is_harmless
from tests.fuzz.surfaces import lock_names
from tests.fuzz.surfaces.lock_directory import fill, hostile, may_live
from tests.fuzz.watch import Watch, state_of
from tests.locks.share import Share

WHOLE = pickle.dumps({"real_name": "Test"}, 1)
#: As whole as that, and never loaded here.
EVIL = b"cos\nsystem\n(S'id'\ntR."


@dataclass(frozen=True)
class Put:
    """One thing in the directory of a list: what it is, the list's, its own name, what it holds."""

    kind: str
    list_name: str
    name: str
    content: bytes


_saves = st.builds("config.pck.tmp.{}".format, st.sampled_from(
    ("HERE.DEAD", "HERE.LIVE", "n2.7", "fenced.7", "lost.7", "HERE.DEAD.LIVE", "HERE.DEAD ", ".5",
     "x")))
puts = st.lists(st.builds(
    Put,
    st.sampled_from(("file", "file", "file", "symlink", "fifo", "directory", "foreign", "aside")),
    st.sampled_from(("test", "example.org/test", "a.lock", "\x1b[2J", "\udcff", "x" * 250,
                     "mailman-ha.quarantine", "master-qrunner", "a|b|5|1")),
    st.one_of(_saves, _saves, st.just("config.pck"), lock_names.names),
    st.sampled_from((WHOLE, WHOLE[:-1], b"", b"\0" * 5000, WHOLE + b"x", EVIL,
                     b"I" + b"9" * 5000 + b"\n.", b"]" * 100_000 + b".")),
), max_size=5)


def _put(lists: Path, outside: Path, share: Share, one: Put) -> None:
    directory = lists / one.list_name
    directory.mkdir(parents=True, exist_ok=True)
    for made in (directory, directory.parent):
        os.chown(made, share.user.uid, share.user.gid)
    path = directory / fill(one.name, FORMAT_21)
    if one.kind == "symlink":
        path.symlink_to(outside / "config.pck")
    elif one.kind == "fifo":
        os.mkfifo(path, 0o666)
    elif one.kind == "directory":
        path.mkdir()
    elif one.kind == "foreign":
        os.link(outside / "config.pck", path)
    elif one.kind == "aside":
        (lists / f"link-{len(one.content)}").symlink_to(outside)
    elif not os.path.lexists(path):
        path.write_bytes(one.content)
        os.chown(path, share.user.uid, share.user.gid)


def mended(example: list[Put]) -> None:
    """A sweep of the lists touches nothing outside, overwrites no configuration, loses no file, and
    leaves what a living process may be writing."""
    with hostile(FORMAT_21) as (share, outside):
        lists = share.top / "lists"
        lists.mkdir()
        for one in example:
            with contextlib.suppress(OSError):
                _put(lists, outside, share, one)
        os.chown(lists, share.user.uid, share.user.gid)
        there, before = state_of(outside), _contents(lists)
        surroundings = share.surroundings()
        with Watch(share.path, (share.state, share.top / "log", lists)):
            problems = save_sweep.mend(
                share.call(4.0), share.installation, lambda: surroundings, str(lists),
                stuck_after=-1.0)
        assert state_of(outside) == there
        assert all(is_harmless(problem, 6000) for problem in problems)
        after, aside = _contents(lists), _contents(share.quarantine)
        for inode, (path, content) in before.items():
            name = os.path.basename(path)
            assert inode in after or inode in aside, f"{path} is lost"
            if inode in after:
                assert after[inode][1] == content
                if after[inode][0] != path:  # it was finished
                    assert os.path.basename(after[inode][0]) == "config.pck"
                    assert content.endswith(b".")
            if inode not in after or after[inode][0] != path:
                assert name.startswith("config.pck.tmp.") and not may_live({name}), path
        assert not any(name.endswith(".lock") for name in share.names())


def _contents(directory: Path) -> dict[int, tuple[str, bytes]]:
    """The regular files below a directory: by inode, the path and what it holds."""
    found = {}
    for top, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(top, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[os.lstat(path).st_ino] = (path, file.read())
    return found


SURFACES = (Surface("list-directories", puts, mended, count=80, bound=2.0),)
