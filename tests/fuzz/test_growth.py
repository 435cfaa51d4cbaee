"""Four times as much foreign input takes about four times as long, not sixteen times."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mailman_ha.agents.list_lock_janitor import save_sweep
from mailman_ha.cli import slice_rows
from mailman_ha.cli.lock_rows import LockRow
from mailman_ha.evidence import cib, cluster, ended_processes, hosts, mounts
from mailman_ha.evidence.process_identity import ProcessStat
from mailman_ha.evidence.process_table import Process
from mailman_ha.locks import directory, grammar, verdict
from mailman_ha.locks.directory import Inspection, LockFile
from mailman_ha.locks.grammar import FORMAT_3, FORMAT_21, GREATEST_PID
from mailman_ha.locks.verdict import Evidence, HostFacts
from mailman_ha.mailman import asking, processes
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.escape import escape, one_line
from mailman_ha.queues import entries
from mailman_ha.queues.slices import Slice

from tests.fuzz.surfaces.lock_directory import hostile
from tests.fuzz.surfaces.mailman import ANSWER
from tests.locks.share import HERE

_PLACE = Location("2.1", ("/m/bin",), prefix="/m")
_ROW = LockRow("x", "lock", "unknown", "why", "remedy", True, "far.example", None, 5)


def crm_mon(count: int) -> Any:
    nodes = b"".join(b'<node name="n%d"/>' % number for number in range(count))
    told = b"".join(
        b'<node name="n%d"><attribute name="mailman-ha-ended" value="1.5_7"/></node>' % number
        for number in range(count)
    )
    events = b'<fence_event target="n1" action="off" status="success" ' \
             b'completed="2026-11-23 19:00:45Z"/>'
    return b"<crm_mon><summary><cluster_options/></summary><nodes>%s</nodes><node_attributes>%s" \
           b"</node_attributes>%s</crm_mon>" % (nodes, told, events * (count // 10))


def resources(count: int) -> Any:
    return b"<resources>%s</resources>" % b"".join(
        b'<primitive id="r%d" class="ocf" type="x"><instance_attributes id="i%d"><nvpair name="a" '
        b'value="b"/></instance_attributes></primitive>' % (number,
                                                            number) for number in range(count)
    )


def claims_on_one_lock(count: int) -> Any:
    claims = tuple(f"test.lock.h.{number + 1}.1" for number in range(count))
    owners = tuple(owner for claim in claims
                   for owner in grammar.owners_of_claim(FORMAT_21, "test.lock", claim))
    lock = LockFile("test.lock", 5, claims, owners)
    seen = Inspection("test.lock", 5, 1, count + 1, 10**18, 10**18, b"/x/test.lock.h.1.1", True)
    facts = {owner.host: HostFacts(verdict.FOREIGN) for owner in owners}
    return lock, seen, Evidence(facts, {}, 1e9, 1.0)


def runners(count: int) -> Any:
    words = ("/usr/bin/python", "/m/bin/qrunner", "--runner=IncomingRunner:0:1")
    return [Process(ProcessStat(p, "S", p // 2, 1, 1, 5), words, 0, "/") for p in range(2, count)]


def planted_claims(count: int) -> Any:
    claims = {("in", Slice(number, 100_000)): _ROW for number in range(count)}
    return slice_rows.Seen((slice_rows.QueueSeen("in", 0, None, {}),), claims, None, (), 0.0)


GROWING: dict[str, tuple[int, Callable[[int], Any], Callable[[Any], object]]] = {
    "crm_mon's nodes": (2000, crm_mon, cluster.parse),
    "the CIB's resources": (1000, resources, cib.parse),
    "claims in one name": (2000, lambda n: [".lock" * 40 + f".h.{i}.1" for i in range(n // 20)],
                           lambda names: [grammar.locks_claimed_by(FORMAT_21, name, "m")
                                          for name in names]),
    "fields of a claim": (20_000, lambda n: "x|" * n + "5",
                          lambda name: grammar.locks_claimed_by(FORMAT_3, name, "m")),
    "names of one file": (5000, lambda n: ["test.lock", *(f"test.lock.h.{i}.1" for i in range(n))],
                          lambda names: directory._pair(FORMAT_21, 5, names, "m")),
    "names of one file without a lock": (20_000, lambda n: [f"x{i}" for i in range(n)],
                                         lambda names: directory._pair(FORMAT_21, 5, names, "m")),
    "claims on one lock": (2000, claims_on_one_lock,
                           lambda seen: verdict.judge(seen[0], seen[1], FORMAT_21, seen[2])),
    "runners": (1000, runners, lambda table: processes.select(table, (_PLACE,))),
    "planted claims on slices": (500, planted_claims, slice_rows.parts),
    "runners of Mailman's answer": (
        3000, lambda n: ANSWER.decode().replace('["in", 4]', ",".join(['["in", 4]'] * n)),
        asking.parse),
    "pids that have ended": (20_000, lambda n: "1.5" + "_7" * n, ended_processes.parse),
    "host_map": (20_000, lambda n: " ".join(f"n{i}=h{i}" for i in range(n)), hosts.parse_host_map),
    "entries of a queue": (5_000, lambda n: [f"1.5+{i:040x}.pck" for i in range(n)],
                           lambda names: entries._tallied(names, [1 << 159, 1 << 160])),
    "a name": (10_000, lambda n: "\x1b\udcff\\a" * n, escape),
    "a sentence": (10_000, lambda n: "\x1b\n\udcffa" * n, one_line),
    "mounts": (2000, lambda n: "36 35 98:0 / /mnt\\040x rw - nfs4 h:/x rw\n" * n, mounts.parse),
}


#: Four times as much takes 4 times as long, or 16 times where the work is quadratic; this is as far
#: from either.
BETWEEN = 8


def seconds(work: Callable[[Any], object], *given: Any) -> list[float]:
    """What each takes of the processor at the least, in an agent: that collects no garbage, which
    takes the longer the more a process like this one holds. In turn, for a busy machine's
    processor has faster and slower times."""
    fastest = [float("inf")] * len(given)
    for _ in range(9):
        for number, one in enumerate(given):
            gc.collect()
            gc.disable()
            try:
                began = time.thread_time()
                work(one)
                fastest[number] = min(fastest[number], time.thread_time() - began)
            finally:
                gc.enable()
    return fastest


@pytest.mark.parametrize("what", GROWING)
def test_four_times_as_much_takes_no_sixteen_times_as_long(what: str) -> None:
    size, make, work = GROWING[what]
    little, much = seconds(work, make(size), make(size * 4))
    assert much < BETWEEN * little + 0.002, f"{little * 1e3:.1f} ms, then {much * 1e3:.1f} ms"
    assert much < 1.0


def test_quadratic_work_is_noticed() -> None:
    def quadratic(names: list[str]) -> object:
        return [name for name in names if names.count(name) > 1]

    little, much = seconds(quadratic, *([str(i) for i in range(n)] for n in (500, 2000)))
    assert much > BETWEEN * little + 0.002


def test_listing_of_a_hostile_directory_grows_with_its_files(tmp_path: Path) -> None:
    places = []
    for count in (200, 800):
        place = tmp_path / str(count)
        place.mkdir()
        for number in range(count):
            os.close(os.open(place / (".lock" * 40 + f".h.{number}.1"), os.O_CREAT, 0o600))
        places.append(str(place))
    spent = seconds(lambda path: directory.read(path, FORMAT_21, "m"), *places)
    assert spent[1] < BETWEEN * spent[0] + 0.002, spent


def test_mending_grows_with_the_saves_of_one_list() -> None:
    """Each is put aside once, so each round has its own."""
    little, much = (min(mending(count) for _ in range(3)) for count in (1000, 4000))
    assert much < BETWEEN * little, f"{little * 1e3:.0f} ms, then {much * 1e3:.0f} ms"


def mending(count: int) -> float:
    """What a sweep takes of the processor (seconds) that finds so many saves of one list."""
    with hostile(FORMAT_21) as (share, _):
        directory = share.top / "lists" / "test"
        directory.mkdir(parents=True)
        for number in range(count):  # pids that no process has
            (directory / f"config.pck.tmp.{HERE}.{GREATEST_PID - number}").write_bytes(b"torn")
        for path in (directory, *directory.iterdir()):
            os.chown(path, share.user.uid, share.user.gid)
        surroundings = share.surroundings()
        gc.collect()
        began = time.thread_time()
        problems = save_sweep.mend(
            share.call(600.0), share.installation, lambda: surroundings, str(directory.parent))
        spent = time.thread_time() - began
        assert problems == () and not os.listdir(directory)
        return spent
