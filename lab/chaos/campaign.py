"""Rounds on real clusters: mail flows, something breaks, all comes to rest, the promises are held.

Each field has one cluster at a time, which serves for round after round; a round that broke a
promise leaves a bundle (logs, CIB, the lock directory, the timeline) and its cluster is replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.client import Lab, LabFailure
from lab.sites import Standin21
from lab.traffic import Traffic

from .faults import Scene
from .plan import Field, Round
from .promises import Seen, broken, excused_losses, seconds_to_recovery

LIST = "test@lists.lab.example"
SUBSCRIBERS = Standin21.subscribers
RATE = 3.0  # posts a second on each cluster
BEFORE, AFTER = 4, 4  # posts that must be accepted before the fault, and at rest

RECOVERED_WITHIN = 180.0  # seconds from the mending until all nodes are members and one serves
DELIVERED_WITHIN = 120.0  # seconds from the last post until all are with the subscribers
QUARANTINE = "mailman-ha.quarantine"

Say = Callable[[str], None]


class Campaign:
    """The rounds of a plan, each written to `directory`/rounds.jsonl when it has ended."""

    def __init__(self, rounds: Sequence[Round], directory: Path, say: Say, until: float) -> None:
        """No round begins after `until` (seconds since the epoch)."""
        self.rounds = rounds
        self.directory = directory
        self.say = say
        self.until = until
        self.writing = threading.Lock()
        self.violations = 0
        self.ended = 0
        self.trouble: list[BaseException] = []

    def run(self) -> int:
        """All rounds, the fields side by side; how many rounds broke a promise."""
        fields = list(dict.fromkeys(each.field for each in self.rounds))
        workers = [
            threading.Thread(target=self.guarded, args=(field,), name=field.name)
            for field in fields
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if self.trouble:
            raise self.trouble[0]
        return self.violations

    def guarded(self, field: Field) -> None:
        """One field's rounds; what ends them before their time is kept for `run`."""
        try:
            self.play(field)
        except BaseException as trouble:
            self.trouble.append(trouble)

    def play(self, field: Field) -> None:
        """The rounds of one field, on one cluster for as long as it is sound."""
        with contextlib.ExitStack() as standing:
            lab: Lab | None = None
            for each in (each for each in self.rounds if each.field == field):
                if time.time() > self.until:
                    return
                if lab is None:
                    lab = standing.enter_context(bring_up(field))
                sound = self.one(lab, each)
                if not sound:
                    standing.close()
                    lab = None

    def one(self, lab: Lab, each: Round) -> bool:
        """Play a round and write it down; whether its cluster can be used for the next."""
        began = time.time()
        try:
            entry = play_round(lab, each)
        except Exception as trouble:  # whatever it is, the other rounds are still worth playing
            why = "".join(traceback.format_exception(type(trouble), trouble, None)).strip()
            entry = {"began": began, "violations": [f"the round could not be played: {why}"]}
        entry = {
            "number": each.number,
            "field": each.field.name,
            "fault": each.fault.name,
            "seed": each.seed,
            **entry,
        }
        violations = entry["violations"]
        with self.writing:
            with open(self.directory / "rounds.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            self.ended += 1
            self.violations += bool(violations)
            said = f"served again after {entry.get('recovery') or 0:.1f} s"
            if violations:
                seed = each.seed.split(":", maxsplit=1)[0]
                traces = [line for found in entry.get("lost", {}).values() for line in found]
                said = "\n    ".join(
                    [
                        f"BROKEN: {violations[0]}",
                        *(f"found: {line}" for line in traces[:20]),
                    ]
                ) + (f"\n    again: make chaos SEED={seed} ONLY={each.number}")
            self.say(
                f"{self.ended}/{len(self.rounds)}: round {each.number}, {each.field.name}: "
                f"{each.fault.name}: {said}"
            )
        if violations:
            save_bundle(lab, self.directory / "bundles" / f"round-{each.number}", entry)
        return not violations


@contextlib.contextmanager
def bring_up(field: Field) -> Iterator[Lab]:
    """A cluster that serves a list; gone at the end, or with this process."""
    name = f"chaos-{os.getpid()}-{field.name}"[:31].rstrip("-")
    lab = Lab(name, suite=field.suite, nodes=field.nodes, site=field.site)
    with lab:
        lab.wait_members(240)
        lab.wait_serving(240)
        lab.create_list(LIST, SUBSCRIBERS)
        yield lab


def play_round(lab: Lab, each: Round) -> dict[str, Any]:
    """One round on a cluster at rest; what is written down of it."""
    chance = each.chance()
    lab.wait_members(120)
    active = master_node(lab, 120)
    began = time.time()
    explained = set(quarantine_names(lab, active)[0])
    members = members_of(lab, active)
    scene = Scene(lab, chance, active)
    traffic = Traffic(lab, LIST, SUBSCRIBERS, RATE, label=f"round-{each.number}")
    not_served, served = "", active
    with traffic.flowing():
        traffic.wait_accepted(BEFORE, 90)
        time.sleep(chance.uniform(0, 1.5))
        fault_at = time.time()
        each.fault.inject(scene)
        held = chance.uniform(*each.fault.hold)
        time.sleep(held)
        each.fault.mend(scene)
        mended_at = time.time()
        time.sleep(3)  # a fault that nobody noticed yet looks like one that is over
        try:
            served = wait_at_rest(lab, mended_at + RECOVERED_WITHIN)
            traffic.wait_accepted(AFTER, 60)
        except LabFailure as trouble:
            not_served = f"{trouble}"
    tally = traffic.wait_delivered(DELIVERED_WITHIN)
    if not not_served:
        try:
            served = wait_at_rest(lab, time.time() + 60)
        except LabFailure as trouble:
            not_served = f"{trouble}"
    files, releases = [], []  # type: list[str], list[dict[str, Any]]
    members_after = members
    if not not_served:
        files, releases = quarantine_names(lab, served)
        members_after = members_of(lab, served)
    failures = lab.failures()
    if failures and not not_served:
        lab.run(served, ["pcs", "resource", "cleanup"], check=False)
    doubles = lab.doubles(max(began, scene.doubles_excused_until))
    seen = Seen(
        fault_at=fault_at,
        accepted=traffic.accepted,
        lost=tally.lost,
        excused=scene.posts_excused,
        doubles=doubles,
        members_before=members,
        members_after=members_after,
        releases=[entry for entry in releases if entry["_at"] >= int(began)],
        quarantined=sorted(unexplained(set(files) - explained, releases)),
        states=states(lab, began),
        not_served=not_served,
    )
    return {
        "began": began,
        "lost": {identity: whereabouts(lab, served, identity) for identity in seen.lost},
        "seconds": round(time.time() - began, 1),
        "held": round(held, 1),
        "notes": scene.notes,
        "typed": scene.typed,
        "accepted": tally.accepted,
        "twice": len(tally.duplicated),
        "excused": excused_losses(seen),
        "fenced": [
            event["node"]
            for event in lab.events()
            if event["event"] == "fenced" and event["time"] >= began
        ],
        "released": [entry.get("released") for entry in seen.releases],
        "failures": failures,
        "recovery": seconds_to_recovery(seen),
        "violations": broken(seen),
        "timeline": timeline(lab, traffic, fault_at),
    }


def master_node(lab: Lab, timeout: float) -> str:
    """The node that has the master, once the lab serves."""
    lab.wait_serving(timeout)
    return lab.wait_until("there is a master", lambda: (lab.masters() or [""])[0], 30)


def wait_at_rest(lab: Lab, deadline: float) -> str:
    """Until all nodes are members, one full set runs and posts are taken; the master's node."""
    lab.wait_members(max(1.0, deadline - time.time()))
    return master_node(lab, max(1.0, deadline - time.time()))


def members_of(lab: Lab, node: str) -> list[str]:
    """The subscribers of LIST as Mailman lists them."""
    return lab.run(node, lab.site.list_members(LIST)).stdout.split()


def states(lab: Lab, since: float) -> list[tuple[float, bool]]:
    """When the watchers saw the daemons change, and whether they were one full set then."""
    return [
        (float(seen["time"]), not lab.unmet_promise_of(seen["daemons"]))
        for seen in lab.observations()
        if seen["time"] >= since
    ]


def whereabouts(lab: Lab, node: str, identity: str) -> list[str]:
    """What a node still finds of a post that was not delivered: queue entries and log lines.

    A post that Mailman shunted or sent away again is found here, one that is gone is not.
    """
    word = shlex.quote(identity.strip("<>"))
    point = shlex.quote(lab.site.mount_point)
    script = (
        f"grep -rlaF {word} {point} --include='*.pck' --include='*.bak' --include='*.psv' "
        f"--include='*.tmp'; grep -raF {word} {point}/logs /var/log/mailman3 /var/log/mailman; "
        f"grep -rahE -A12 'SHUNT|Traceback|preserv' {point}/logs /var/log/mailman3 | tail -n 30"
    )
    done = lab.run(node, ["sh", "-c", f"({script}) 2>/dev/null"], check=False)
    return done.stdout.splitlines()


def quarantine_names(lab: Lab, node: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The files in the quarantine and the lines of its evidence, each with its time as `_at`.

    A line that a power cut has torn says nothing; what it was about then stands unexplained.
    """
    place = shlex.quote(f"{lab.site.lock_directory()}/{QUARANTINE}")
    listing = lab.run(node, ["sh", "-c", f"ls -A {place} 2>/dev/null"], check=False).stdout
    names = [line for line in listing.splitlines() if line]
    text = lab.run(node, ["sh", "-c", f"cat {place}/evidence*.jsonl"], check=False).stdout
    entries = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        moment = time.strptime(entry["time"], "%Y-%m-%dT%H:%M:%SZ")
        entry["_at"] = int(time.mktime(moment) - time.timezone)
        entries.append(entry)
    return names, entries


def unexplained(names: set[str], entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Files of the quarantine that no line of the evidence speaks of."""
    text = "\n".join(json.dumps(entry) for entry in entries)
    for name in names:
        own = name.startswith(("evidence", "guard", "."))
        if not own and json.dumps(name)[1:-1] not in text:
            yield name


def timeline(lab: Lab, traffic: Traffic, fault_at: float) -> dict[str, Any]:
    """What the plot of a round shows; times in seconds from the fault."""
    start = fault_at - 10
    return {
        "accepted": [round(moment - fault_at, 2) for moment in traffic.accepted.values()],
        "delivered": [
            round(each["time"] - fault_at, 2)
            for each in lab.deliveries()
            if each["time"] >= start and each["message_id"] in traffic.accepted
        ],
        "events": [
            [round(each["time"] - fault_at, 2), each["event"], each["node"]]
            for each in lab.events()
            if each["time"] >= start
        ],
        "daemons": [
            [
                round(each["time"] - fault_at, 2),
                {
                    node: [len(found.get("master", [])), len(found) - ("master" in found)]
                    for node, found in each["daemons"].items()
                },
            ]
            for each in lab.observations()
            if each["time"] >= start
        ],
    }


def save_bundle(lab: Lab, place: Path, entry: Mapping[str, Any]) -> None:
    """Everything one needs to understand a round that broke a promise."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "round.json").write_text(json.dumps(entry, indent=1), encoding="utf-8")
    with contextlib.suppress(LabFailure, OSError):
        (place / "state.txt").write_text(lab.describe(), encoding="utf-8")
    for name in ("events.jsonl", "observations.jsonl", "deliveries.jsonl", "supervisor.log"):
        with contextlib.suppress(OSError):
            shutil.copy(lab.state / name, place / name)
    locks, point = lab.site.lock_directory(), lab.site.mount_point
    for node in lab.node_names:
        for name, command in {
            "cib.xml": "cibadmin -Q",
            "locks.txt": f"ls -la --time-style=full-iso {locks} {locks}/{QUARANTINE}; date",
            "queues.txt": f"find {point} -name '*.pck*' -o -name '*.bak' -o -name '*.psv'",
            "evidence.jsonl": f"cat {locks}/{QUARANTINE}/evidence*.jsonl",
            "ps.txt": "ps -ef",
            "syslog": "tail -n 4000 /var/log/syslog",
            "corosync.log": "tail -n 1000 /var/log/corosync/corosync.log",
            "mailman.log": f"tail -n 3000 {point}/logs/* /var/log/mailman3/*",
        }.items():
            with contextlib.suppress(LabFailure, OSError):
                done = lab.run(node, ["sh", "-c", command], timeout=15, check=False)
                (place / f"{node}.{name}").write_text(done.stdout, encoding="utf-8")
