"""The demo: what happens today when a mail server dies, and what happens with the agents.

First act, without the agents: Mailman runs on n1, its power is cut, an operator mounts the disk on
n2 and types `mailman start`. Second act, with them: the same disk, the same list, posts coming in
all the time, the active node's power cut in the middle, and nobody types anything. At the end a
table, and exit status 1 if a post was lost, or two masters were seen, or nobody took over.
"""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Callable, TextIO

from pictures import failover

from .client import Lab, LabFailure
from .cluster import DOMAIN, VIRTUAL_ADDRESS
from .sites import LMTP_PORT, Standin21
from .traffic import Tally, Traffic

LIST = f"test@lists.{DOMAIN}"
RATE = 5.0  # posts a second
BEFORE = 25  # posts accepted before the power is cut
AFTER = 25  # and after somebody serves again
PROBE_INTERVAL = 0.05  # seconds between two connections that look for the virtual address


class Display:
    """Progress: a few lines that are redrawn on a terminal, plain lines elsewhere."""

    def __init__(self, out: TextIO) -> None:
        """Write to `out`."""
        self.out = out
        self.live = out.isatty()
        self.drawn = 0
        self.shown_at = 0.0
        self.began = time.monotonic()

    def line(self, text: str) -> None:
        """One line that stays."""
        self.wipe()
        clock = f"{time.monotonic() - self.began:6.1f} s  " if text else ""
        self.out.write(f"{clock}{text}\n")
        self.out.flush()

    def heading(self, text: str) -> None:
        """The title of an act."""
        self.wipe()
        bold, plain = ("\033[1m", "\033[0m") if self.live else ("", "")
        self.out.write(f"\n{bold}{text}{plain}\n")
        self.out.flush()

    def panel(self, lines: Sequence[str]) -> None:
        """The state of now: redrawn in place; without a terminal one line every two seconds."""
        if not self.live:
            if time.monotonic() - self.shown_at >= 2:
                self.shown_at = time.monotonic()
                self.line(" | ".join(" ".join(line.split()) for line in lines))
            return
        self.wipe()
        width = shutil.get_terminal_size().columns - 1
        for line in lines:
            self.out.write(line[:width] + "\n")
        self.drawn = len(lines)
        self.out.flush()

    def wipe(self) -> None:
        """Take the panel away."""
        if self.drawn:
            self.out.write(f"\033[{self.drawn}A\033[J")
            self.drawn = 0


class AddressProbe(threading.Thread):
    """Looks from outside when the virtual address answers anything, be it a refusal."""

    def __init__(self, lab: Lab) -> None:
        """`answers` gets the time of each answer (seconds since the epoch)."""
        super().__init__(daemon=True)
        self.lab = lab
        self.answers: list[float] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        """Connect again and again."""
        self.lab.join_network()
        while not self.stopping.wait(PROBE_INTERVAL):
            try:
                socket.create_connection((VIRTUAL_ADDRESS, LMTP_PORT), timeout=0.3).close()
            except ConnectionRefusedError:
                pass
            except OSError:
                continue
            self.answers.append(time.time())


def demonstrate(name: str, suite: str, site: str, picture: Path | None = None) -> int:
    """Both acts on a lab of their own, the second one drawn as SVG where `picture` is given; the
    exit status."""
    display = Display(sys.stdout)
    lab = Lab(name, suite, 2, site, display.line)
    try:
        lab.up(owned=True, boot=False)
        display.heading("1. Today, without the agents")
        today(lab, display)
        display.heading("2. With the agents")
        sound = with_agents(lab, display, picture)
    finally:
        display.wipe()
        lab.down()
    return 0 if sound else 1


# ------------------------------------------------------------------ first act


def today(lab: Lab, display: Display) -> None:
    """An active/passive pair run by hand: the takeover is refused."""
    for node in lab.node_names:
        lab.boot(node, cluster=False)
    mount = ["mount", "/dev/shared-disk", lab.site.mount_point]
    lab.run("n1", mount)
    lab.run("n1", lab.site.start_command(force=False))
    lab.wait_until("all of Mailman runs on n1", lambda: not lab.unmet_promise(), 60)
    display.line("n1 has the shared disk and runs Mailman")
    lab.kill("n1")
    display.line("n1 loses its power; its master lock stays behind on the disk")
    lab.run("n2", mount)
    command = lab.site.start_command(force=False)
    display.line(f"n2 mounts the disk; the operator types: {' '.join(command[4:] or command)}")
    done = lab.run("n2", command, check=False)
    for line in (done.stdout + done.stderr).strip().splitlines():
        display.line(f"    {line}")
    masters = lab.masters()
    display.line(
        f"exit status {done.returncode}, "
        + (f"and Mailman runs on {masters}" if masters else "and no Mailman runs anywhere")
    )
    lab.kill("n2")
    lab.format_disk()


# ------------------------------------------------------------------ second act


def with_agents(lab: Lab, display: Display, picture: Path | None) -> bool:
    """The cluster: cut the active node's power under traffic, and count."""
    for node in lab.node_names:
        lab.boot(node)
    display.line("n1 and n2 boot with corosync and Pacemaker")
    lab.wait_members(90)
    active = lab.wait_serving(120)
    display.line(f"{active} serves: shared disk, virtual address {VIRTUAL_ADDRESS}, Mailman")
    subscribers = Standin21.subscribers
    lab.create_list(LIST, subscribers)
    display.line(f"list {LIST} with {len(subscribers)} subscribers; {RATE:.0f} posts a second")
    survivor = next(node for node in lab.node_names if node != active)

    began = time.time()
    traffic = Traffic(lab, LIST, subscribers, RATE, label="demo")
    probe = AddressProbe(lab)
    probe.start()
    served = ""
    with traffic.flowing():
        watch(lab, display, traffic, "enough posts before", enough(traffic, BEFORE), 60)
        cut = time.time()
        display.line(f"the power of {active} is cut, after {len(traffic.accepted)} posts")
        lab.kill(active)
        try:
            watch(lab, display, traffic, f"{survivor} serves", taken_over(lab, survivor), 120)
            served = survivor
            display.line(f"{survivor} has taken over: disk, address, master and all runners")
            goal = len(traffic.accepted) + AFTER
            watch(lab, display, traffic, "enough posts after", enough(traffic, goal), 60)
        except LabFailure as trouble:
            display.line(str(trouble))
    display.line("no more posts; waiting for what is still in the queues")
    tally = traffic.wait_delivered(60)
    probe.stopping.set()
    probe.join()
    doubles = lab.doubles(began)
    moments = timeline(lab, probe, cut, active, survivor)
    display.line("")
    for line in table(moments, cut, traffic, tally, doubles):
        display.out.write(line + "\n")
    sound = bool(served) and tally.all_delivered() and not doubles
    if picture is not None:
        measured = failover_of(lab, moments, cut, (active, survivor), traffic, tally)
        picture.write_text(failover.draw(measured).svg(), encoding="utf-8")
        display.line(f"the picture is {picture}")
    display.out.write(f"\n{verdict(sound, served, tally, doubles)}\n")
    return sound


def enough(traffic: Traffic, count: int) -> Callable[[], bool]:
    """A condition: so many posts are accepted."""
    return lambda: len(traffic.accepted) >= count


def taken_over(lab: Lab, survivor: str) -> Callable[[], bool]:
    """A condition: the survivor serves."""
    return lambda: (
        lab.masters() == [survivor]
        and not lab.unmet_promise()
        and lab.active_node() == survivor
    )


def watch(
    lab: Lab,
    display: Display,
    traffic: Traffic,
    what: str,
    holds: Callable[[], bool],
    timeout: float,
) -> None:
    """Show the state until the condition holds; LabFailure when it does not in time."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise LabFailure(f"not within {timeout:.0f} s: {what}\n{lab.describe()}")
        display.panel(panel(lab, traffic))
        time.sleep(0.2)


def panel(lab: Lab, traffic: Traffic) -> list[str]:
    """Power and Mailman of each node, and the mail."""
    daemons = lab.daemons()
    lines = []
    for node, facts in lab.status().items():
        found = daemons.get(node, {})
        runners = len(found) - ("master" in found)
        mailman = f"master and {runners} runners" if "master" in found else f"{runners} runners"
        lines.append(f"  {node}  {'on ' if facts['on'] else 'OFF'}  {mailman if found else '-'}")
    tally = traffic.tally()
    lines.append(
        f"  posts: {tally.accepted} accepted, {tally.delivered} delivered, "
        f"{traffic.refused} tries refused"
    )
    return lines


def timeline(
    lab: Lab, probe: AddressProbe, cut: float, active: str, survivor: str
) -> dict[str, float | None]:
    """When each step of the failover was first seen, in seconds since the epoch."""
    fenced = first(
        event["time"]
        for event in lab.events()
        if event["event"] == "fenced" and event["node"] == active and event["time"] > cut
    )
    since = fenced or cut
    return {
        f"{active} fenced": fenced,
        "virtual address up": first(moment for moment in probe.answers if moment > since),
        f"master up on {survivor}": first(
            seen["time"]
            for seen in lab.observations()
            if seen["time"] > cut and seen["daemons"].get(survivor, {}).get("master")
        ),
        "first delivery": first(
            delivery["time"] for delivery in lab.deliveries() if delivery["time"] > since
        ),
    }


def failover_of(
    lab: Lab,
    moments: Mapping[str, float | None],
    cut: float,
    nodes: tuple[str, str],
    traffic: Traffic,
    tally: Tally,
) -> failover.Failover:
    """What was measured, for the picture; a post counts as delivered with its last copy."""
    fenced, address, master, delivery = (
        None if moment is None else round(moment - cut, 2) for moment in moments.values()
    )
    last = {copy["message_id"]: copy["time"] for copy in lab.deliveries()}
    return failover.Failover(
        *nodes, fenced, address, master, delivery,
        accepted=[round(moment - cut, 2) for moment in traffic.accepted.values()],
        delivered=sorted(
            round(last[post] - cut, 2) for post in traffic.accepted if post in last
        ),
        lost=len(tally.lost),
        twice=len(tally.duplicated),
    )


def first(moments: Iterable[float]) -> float | None:
    """The first of an iterable, None when it is empty."""
    return next(iter(moments), None)


def table(
    moments: Mapping[str, float | None],
    cut: float,
    traffic: Traffic,
    tally: Tally,
    doubles: Sequence[str],
) -> list[str]:
    """The table at the end."""
    after = [moment for moment in traffic.accepted.values() if moment > cut]
    rows: list[tuple[str, str]] = [("after the power cut", "seconds")]
    for what, moment in {**moments, "first post accepted again": first(after)}.items():
        rows.append((what, f"{moment - cut:.1f}" if moment is not None else "never"))
    rows.append(("", ""))
    rows += [
        ("posts accepted", str(tally.accepted)),
        ("posts delivered to everybody", str(tally.delivered)),
        ("posts lost", str(len(tally.lost))),
        ("posts delivered twice to somebody", str(len(tally.duplicated))),
        ("moments with two masters or runners", str(len(doubles))),
    ]
    width = max(len(what) for what, _ in rows)
    return [f"  {what:<{width}}  {value:>8}".rstrip() for what, value in rows]


def verdict(sound: bool, served: str, tally: Tally, doubles: Sequence[str]) -> str:
    """The last sentence."""
    if sound:
        return "No post was lost, there was never a second master, and nobody typed anything."
    wrong = []
    if not served:
        wrong.append("nobody took over")
    if tally.lost:
        wrong.append(f"{len(tally.lost)} posts were lost: {' '.join(tally.lost[:3])}")
    if doubles:
        wrong.append(f"there were two: {doubles[0]}")
    return "FAILED: " + "; ".join(wrong)
