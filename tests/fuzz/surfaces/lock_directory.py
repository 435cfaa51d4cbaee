"""Real lock directories in which somebody hostile has written: names, contents, links, FIFOs,
sockets; swept, looked at, and told of."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hypothesis import strategies as st
from mailman_ha.agents import lock_sweep
from mailman_ha.agents.list_lock_janitor import judge, quick, state_file
from mailman_ha.agents.list_lock_janitor.state_file import Duty
from mailman_ha.cli import explain, lock_chain, lock_rows, table
from mailman_ha.cli.ending import UsageError
from mailman_ha.cli.target import Resources, Target
from mailman_ha.evidence.cluster import Node
from mailman_ha.locks import directory as lock_directory
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, GREATEST_PID

from tests.fuzz.surface import Surface, is_harmless, look_lightly
from tests.fuzz.surfaces import lock_names
from tests.fuzz.watch import Watch, state_of
from tests.locks.share import HERE, Share

#: Nothing has this pid: it is greater than any that the kernel gives out here.
DEAD = GREATEST_PID

#: The variable that names a directory for what the surfaces make.
SPACE = "FUZZ_SPACE"

#: A sentence names a file (255 bytes, each escaped in four letters), hosts and remedies.
LONGEST_SENTENCE = 6000


@dataclass(frozen=True)
class Planted:
    """One thing in the directory: what it is, its name, which file it links to, what it holds."""

    kind: str
    name: str
    number: int
    content: bytes


_kept_running: list[subprocess.Popen[bytes]] = []


@lru_cache
def living_mailman() -> int:
    """The pid of a process that looks like one of Mailman's. It ends with this one, however that
    ends: then nobody has the other end of its standard input."""
    process = subprocess.Popen(
        ["mailman-ha-test-qrunner", "-c", "read nothing"], executable="/bin/sh",
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    _kept_running.append(process)
    while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"mailman-ha-"):
        time.sleep(0.001)
    return process.pid


@lru_cache
def space() -> Path:
    """A directory in memory that Mailman's user may enter. Under atheris, which ends without a word
    to Python, it is one that the process above removes."""
    above = os.environ.get(SPACE, "")
    path = Path(above or tempfile.mkdtemp(prefix="mailman-ha-fuzz-", dir="/dev/shm"))
    path.chmod(0o755)
    owner = os.getpid()
    atexit.register(lambda: owner == os.getpid() and shutil.rmtree(path, ignore_errors=True))
    return path


@contextlib.contextmanager
def hostile(format: str) -> Iterator[tuple[Share, Path]]:
    """A lock directory and a directory beside it in which nobody has any business."""
    top = Path(tempfile.mkdtemp(dir=space()))
    top.chmod(0o755)
    try:
        share = Share(top, format)
        share.nodes["fenced"] = Node("fenced", False, False, fenced_at=time.time() + 600)
        share.nodes["lost"] = Node("lost", False, True)
        outside = top / "outside"
        outside.mkdir()
        for name in ("victim.lock", "config.pck"):
            (outside / name).write_text(f"precious {name}\n")
            os.chown(outside / name, share.user.uid, share.user.gid)
        os.chown(outside, share.user.uid, share.user.gid)
        yield share, outside
    finally:
        shutil.rmtree(top)


_OWNERS = ("HERE.DEAD", "HERE.LIVE", "n2.7", "fenced.7", "lost.7", "far.example.7",
           "HERE.LIVE.DEAD",
           "HERE.DEAD.LIVE")
_LOCKS = ("test.lock", "master-qrunner", "master.lck", "creator", "a.lock.lock", "x.lck",
          "\x1b[2J.lock", "\udcff.lock", "a\nb.lock", "qfiles:in:0:4.lock")
_SERIALS = ("", ".1", ".DEAD", ".LIVE", ".0", ".99999999")
_claims = st.builds("{}.{}{}".format, st.sampled_from(_LOCKS), st.sampled_from(_OWNERS),
                    st.sampled_from(_SERIALS))
_names = st.one_of(st.sampled_from(_LOCKS), _claims, lock_names.names)
_contents = st.one_of(
    st.sampled_from((
        b"OWN", b"", b"/etc/passwd", b"OUTSIDE/victim.lock", b"../outside/victim.lock", b"..", b"/",
        b"test.lock", b"/x/test.lock.HERE.LIVE.1", b"/x/test.lock.HERE.DEAD.1", b"test.lock.n2.7",
        b"\0" * 4096, b"a" * 4097, b"x" * (1 << 20), b"\x1b]0;x\x07", b"\xff\xfe/\xff",
        b"a\n/etc/passwd",
        b"mailman-ha.quarantine/evidence.jsonl", b"test.lock|HERE|LIVE|1",
    )),
    st.binary(max_size=100),
)
_kinds = st.sampled_from((
    "pair", "pair", "pair", "file", "file", "link", "link", "symlink", "fifo", "directory",
    "socket",
    "stolen", "foreign", "roots", "many",
))
plantings = st.tuples(
    st.sampled_from((FORMAT_21, FORMAT_3)),
    st.lists(st.one_of(
        st.builds(Planted, _kinds, _names, st.integers(0, 7), _contents),
        st.builds(Planted, st.just("pair"), _claims, st.integers(0, 7), st.just(b"OWN")),
    ), max_size=7),
)


def fill(text: str, format: str) -> str:
    """A name with its owners put in, as `format` writes it."""
    if format == FORMAT_3:
        for owner in _OWNERS:
            text = text.replace(f".{owner}", "|" + owner.replace("HERE.", "HERE|").replace(
                "n2.", "n2|").replace("fenced.", "fenced|").replace("lost.", "lost|"))
        for serial in (".1", ".0"):
            if "|" in text and text.endswith(serial):
                text = text[: -len(serial)] + "|" + serial[1:]
    for word, value in (("HERE", HERE), ("LIVE", str(living_mailman())), ("DEAD", str(DEAD))):
        text = text.replace(word, value)
    return text


def plant(share: Share, outside: Path, things: list[Planted]) -> None:
    """Put `things` into the lock directory; what the file system refuses is left out."""
    made: list[str] = []
    for thing in things:
        name = fill(thing.name, share.format)
        path = share.path / name
        content = fill(os.fsdecode(thing.content), share.format)
        content = content.replace("OUTSIDE", str(outside))
        data = os.fsencode(str(path) if content == "OWN" else content)
        with contextlib.suppress(OSError):
            _plant(share, outside, thing, name, data, made)
            made.append(name)


def _plant(
    share: Share, outside: Path, thing: Planted, name: str, data: bytes, made: list[str]
) -> None:
    path = share.path / name
    other = share.path / made[thing.number % len(made)] if made else outside / "victim.lock"
    expires = (18_000.0, 30.0, -3600.0, 1e9)[thing.number % 4]
    if os.path.lexists(path) and thing.kind != "link":
        return
    if thing.kind == "pair":
        share.write(name, data, expires)
        for separator in (".HERE.", ".n2.", ".fenced.", ".lost.", ".far."):
            lock = name.partition(separator.replace("HERE", HERE))[0]
            if lock != name:
                os.link(path, share.path / lock)
        lock = name.partition("|")[0]
        if lock != name:
            os.link(path, share.path / lock)
    elif thing.kind == "file":
        share.write(name, data, expires)
    elif thing.kind == "roots":
        path.write_bytes(data)
        path.chmod(0o600)
    elif thing.kind == "link":
        os.link(other, path, follow_symlinks=False)
    elif thing.kind == "many":
        share.write(name, data, expires)
        for number in range(300):
            lock = name.partition(f".{HERE}.")[0]
            os.link(path, share.path / f"{lock}.{HERE}.{DEAD}.{number + 10}")
    elif thing.kind == "symlink":
        path.symlink_to((outside / "victim.lock", "..", "/etc/passwd", other.name, "nothing",
                         outside, "/proc/self/fd/0", name)[thing.number])
    elif thing.kind == "fifo":
        os.mkfifo(path, 0o666)
    elif thing.kind == "directory":
        path.mkdir()
        (path / "x").write_text("x")
    elif thing.kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            descriptor = os.open(share.path, os.O_RDONLY)
            try:
                listening.bind(os.fsencode(f"/proc/self/fd/{descriptor}/{name}"))
            finally:
                os.close(descriptor)
    elif thing.kind == "stolen":
        os.link(other, outside / f"stolen-{len(made)}", follow_symlinks=False)
    elif thing.kind == "foreign":
        os.link(outside / ("victim.lock", "config.pck")[thing.number % 2], path)


def files(share: Share) -> dict[int, tuple[set[str], os.stat_result]]:
    """What is in the lock directory, without our own quarantine: by inode, the names and status."""
    found: dict[int, tuple[set[str], os.stat_result]] = {}
    for name in os.listdir(share.path):
        if name != lock_directory.QUARANTINE:
            status = os.lstat(share.path / name)
            found.setdefault(status.st_ino, (set(), status))[0].add(name)
    return found


def may_live(names: set[str], content: str = "") -> bool:
    """Whether any owner that a name or content could mean is alive, by the letters alone."""
    live = str(living_mailman())
    for name in (*names, content):
        for separator in (".", "|"):
            fields = name.split(separator)
            for host, pid in zip(fields, fields[1:]):
                if host == "n2" or host == "lost" or (host == HERE and pid == live):
                    return True
    return False


def a_sweep(example: tuple[str, list[Planted]]) -> None:
    """Whatever lies there, a sweep touches nothing outside, loses no file, takes nothing away whose
    owner may live, and tells what it kept in lines that no terminal obeys."""
    format, things = example
    with hostile(format) as (share, outside):
        plant(share, outside, things)
        there, before = state_of(outside), files(share)
        contents = {
            inode: os.fsdecode((share.path / min(names)).read_bytes()[:4096])
            for inode, (names, status) in before.items()
            if os.path.isfile(share.path / min(names))
            and not os.path.islink(share.path / min(names))
        }
        _monitor_lightly(share)
        with Watch(share.path, (share.state, share.top / "log")):
            report = share.sweep()
        assert state_of(outside) == there, "a file outside was touched"
        after = files(share)
        kept = {
            os.lstat(share.quarantine / name).st_ino
            for name in (os.listdir(share.quarantine) if share.quarantine.is_dir() else ())
        }
        for inode, (names, _) in before.items():
            assert inode in after or inode in kept, f"{names} is lost"
            if inode not in after:
                assert not may_live(names, contents.get(inode, "")), f"{names} was taken away"
        for inode, (names, _) in after.items():
            assert names <= before.get(inode, (set(), None))[0], f"{names} came into being"
        _told(share, report)
        _looked_at(share, things)


def _monitor_lightly(share: Share) -> None:
    site = share.installation
    state_file.write(
        state_file.path(str(share.state), "janitor"),
        Duty(str(share.path), share.format, site.master_lock, share.user.uid, share.user.gid,
             (HERE,)),
    )
    with Watch(share.path, (share.state,)):
        look_lightly(
            quick.quick_monitor,
            {"HA_RSCTMP": str(share.state), "OCF_RESOURCE_INSTANCE": "janitor"},
        )


def _told(share: Share, report: lock_sweep.SweepReport) -> None:
    for one in report.kept:
        assert is_harmless(one.sentence(), LONGEST_SENTENCE), one.sentence()[:7000]
    for problem in report.problems:
        assert is_harmless(problem, LONGEST_SENTENCE), problem[:7000]
    assert len(judge.sweep_outcome(report, 0.0).reason) <= LONGEST_SENTENCE + 200
    log = share.top / "log"
    if log.exists():
        assert all(line.isprintable() and line.isascii() for line in log.read_text().split("\n"))
    for line in share.evidence():
        text = json.dumps(line)
        assert len(text) < 1 << 17 and all(
            is_harmless(str(value)) for name, value in line.items() if name != "moved_to")


def _looked_at(share: Share, things: list[Planted]) -> None:
    """What mailman-ha locks and explain tell of the directory."""
    surroundings = share.surroundings()
    with Watch(share.path, (share.state, share.top / "log")):
        look = lock_sweep.look(share.call(), share.installation, lambda: surroundings, closely=True)
    rows = lock_rows.rows(look, lock_rows.Standards(600.0, True))
    target = Target(share.call(), share.installation, "found", "", Resources())
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        table._show_plainly(
            lock_rows.COLUMNS, [[table._pair(one) for one in lock_rows.cells(row)] for row in rows])
        for line in lock_rows.ways_out(rows):
            table.say(line)
    for line in out.getvalue().split("\n"):
        assert is_harmless(line), line
    for row in rows:
        assert json.dumps(lock_rows.as_json(row), allow_nan=False).isascii()
    for judged in look.judged[:4]:
        with Watch(share.path, (share.state,)):
            file = explain._file_facts(str(share.path), judged.name)
        chain = lock_chain.chain(judged, file, (), look.evidence, surroundings, str(share.path), ())
        assert all(is_harmless(link.found) for link in chain.links)
        assert all(is_harmless(sentence) for sentence in chain.missing)
    for thing in things[:3]:
        try:
            name = explain._name(fill(thing.name, share.format), target)
        except UsageError as error:
            assert is_harmless(str(error))
            continue
        explain._find(name, look.listing)
        with Watch(share.path, (share.state,)):
            explain._released(name, target)


SURFACES = (Surface("lock-directories", plantings, a_sweep, count=120, bound=2.0),)
