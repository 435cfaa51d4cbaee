"""The command line of the lab: python3 -m lab COMMAND."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from . import mailman21
from .client import CannotRun, Lab, LabFailure
from .image import SUITES, ImageFailure, bare_image, node_image
from .requirements import missing
from .site_table import SITES


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def up(options: argparse.Namespace) -> int:
    """Make a lab that stays until `lab down`."""
    lab = Lab(options.name, options.suite, options.nodes, options.site, say)
    try:
        lab.up()
        lab.fence_fails_first(options.fence_fails_first)
        if not options.no_wait:
            say("waiting for the cluster")
            lab.wait_members()
            say(f"serving on {lab.wait_serving()}")
    except KeyboardInterrupt:
        say("interrupted: taking the lab down")
        lab.down()
        return 130
    return 0


def run(options: argparse.Namespace) -> int:
    """Run a command in a node, on this terminal; its exit status is ours."""
    command = options.command or ["/bin/bash"]
    prefix = Lab.existing(options.name).enter(options.node)
    return subprocess.run([*prefix, *command], check=False).returncode


def kill(options: argparse.Namespace) -> int:
    """Cut a node's power."""
    Lab.existing(options.name).kill(options.node)
    say(f"{options.node} is off")
    return 0


def boot(options: argparse.Namespace) -> int:
    """Switch a node on."""
    Lab.existing(options.name).boot(options.node)
    say(f"{options.node} is on")
    return 0


def partition(options: argparse.Namespace) -> int:
    """Pull or put back a node's cable."""
    lab = Lab.existing(options.name)
    if options.heal:
        lab.heal(options.node)
    else:
        lab.partition(options.node)
    say(f"the cable of {options.node} is {'back' if options.heal else 'out'}")
    return 0


def fence_fails(options: argparse.Namespace) -> int:
    """Let the next fencing attempts fail."""
    Lab.existing(options.name).fence_fails_first(options.count)
    return 0


def images(options: argparse.Namespace) -> int:
    """Build the images that are missing."""
    for suite in options.suites or SUITES:
        sentences = missing(suite)
        if sentences:
            raise CannotRun("\n".join(sentences))
        say(f"{suite}: {node_image(suite, say)} {bare_image(suite, say)}")
    return 0


def status(options: argparse.Namespace) -> int:
    """Power, cable and Mailman of each node, what was delivered, and the cluster's own view."""
    lab = Lab.existing(options.name)
    daemons = lab.daemons()
    say(f"lab {lab.name}: {lab.suite}, {lab.site.name}")
    for node, facts in lab.status().items():
        power = "on" if facts["on"] else "off"
        cable = "" if facts["plugged"] else ", cable out"
        found = daemons.get(node, {})
        masters = len(found.get("master", []))
        runners = sum(len(pids) for key, pids in found.items() if key != "master")
        say(f"  {node}: {power}{cable}, {masters} master, {runners} runners")
    say(f"  delivered: {len(lab.deliveries())}")
    for node in lab.inits():
        done = lab.run(node, ["crm_mon", "-1", "-r"], timeout=10, check=False)
        if done.returncode == 0:
            say(done.stdout.rstrip())
            break
    return 0


def down(options: argparse.Namespace) -> int:
    """Take a lab down, or clear what a dead one left."""
    Lab(options.name).down()
    return 0


def demo(options: argparse.Namespace) -> int:
    """Show a fail-over in the middle of traffic."""
    from .demo import demonstrate

    return demonstrate(options.name, options.suite, options.site, options.svg)


def failover(options: argparse.Namespace) -> int:
    """Time fail-overs against Mailman's own cold start; 1 if they add too much."""
    from .failover_time import compare_sites

    return compare_sites(
        options.name, options.suite, options.sites, options.rounds, options.write, say
    )


def chaos(options: argparse.Namespace) -> int:
    """Play the rounds of a campaign; 1 if one broke a promise."""
    from .chaos.campaign import Campaign
    from .chaos.plan import FIELDS, left_to_play, plan, with_real_mailman21
    from .chaos.report import read

    fields = with_real_mailman21(FIELDS) if os.environ.get(mailman21.VARIABLE) else FIELDS
    count = options.faults if options.only is None else options.only + 1
    rounds = plan(options.seed, count, fields)
    if options.only is not None:
        rounds = rounds[options.only :]
    if options.field:
        rounds = [each for each in rounds if each.field.name == options.field]
    directory = Path(options.directory)
    directory.mkdir(parents=True, exist_ok=True)
    if options.go_on and (directory / "rounds.jsonl").exists():
        rounds = left_to_play(rounds, read(directory / "rounds.jsonl"))
    for suite in sorted({each.field.suite for each in rounds}):
        if missing(suite):
            raise CannotRun("\n".join(missing(suite)))
        node_image(suite, say)
    began = time.time()
    until = began + options.minutes * 60 if options.minutes else float("inf")
    campaign = Campaign(rounds, directory, say, until)
    broken = campaign.run()
    say(
        f"{campaign.ended} rounds of {len(rounds)} in {time.time() - began:.0f} s, seed "
        f"{options.seed}: {broken} with a broken promise; written to {directory}/rounds.jsonl"
    )
    return 1 if broken or not campaign.ended else 0


def chaos_report(options: argparse.Namespace) -> int:
    """Make report.md and timeline.svg from the rounds that were written down."""
    from .chaos.report import read, write

    directory = Path(options.directory)
    write(read(directory / "rounds.jsonl"), directory)
    say(f"{directory}/report.md and {directory}/timeline.svg are made")
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="lab", description="A real Pacemaker cluster with a real Mailman, on this machine."
    )
    commands = top.add_subparsers(title="commands", required=True)

    def command(function: object, name: str, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--name", default="lab", help="which lab (default: %(default)s)")
        made.set_defaults(function=function)
        return made

    made = command(up, "up", "make a lab and wait until it serves")
    made.add_argument("--suite", choices=SUITES, default=SUITES[0])
    made.add_argument("--nodes", type=int, choices=(2, 3), default=2)
    made.add_argument("--site", choices=sorted(SITES), default="mailman3")
    made.add_argument("--fence-fails-first", type=int, default=0, metavar="N")
    made.add_argument("--no-wait", action="store_true", help="return when the nodes are booted")
    made = command(run, "run", "run a command in a node (default: a shell)")
    made.add_argument("node")
    made.add_argument("command", nargs=argparse.REMAINDER)
    command(kill, "kill", "cut a node's power").add_argument("node")
    command(boot, "boot", "switch a node on").add_argument("node")
    made = command(partition, "partition", "pull a node's network cable")
    made.add_argument("node")
    made.add_argument("--heal", action="store_true", help="put it back")
    made = command(fence_fails, "fence-fails", "let the next COUNT fencing attempts fail")
    made.add_argument("count", type=int)
    made = commands.add_parser("images", help="build the node images that are missing")
    made.add_argument("suites", nargs="*", metavar="SUITE", help=f"default: {' '.join(SUITES)}")
    made.set_defaults(function=images)
    command(status, "status", "what the lab and its cluster look like")
    command(down, "down", "take the lab down and leave nothing behind")
    made = command(demo, "demo", "post through a fail-over and count")
    made.add_argument("--suite", choices=SUITES, default=SUITES[0])
    on_one = sorted(name for name, site in SITES.items() if not site.on_several_nodes)
    made.add_argument("--site", choices=on_one, default="mailman3")
    made.add_argument("--svg", type=Path, metavar="FILE", help="draw the failover over time")
    made = command(failover, "failover", "time fail-overs against Mailman's own cold start")
    made.add_argument("--suite", choices=SUITES, default=SUITES[0])
    made.add_argument("--sites", choices=on_one, nargs="+", default=["mailman3", "standin21"])
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--write", type=Path, metavar="FILE", help="the tables, as Markdown")
    made = commands.add_parser("chaos", help="random faults on clusters under mail")
    made.add_argument("--faults", type=int, default=20, help="rounds (default: %(default)s)")
    made.add_argument("--seed", type=int, default=1, help="decides all (default: %(default)s)")
    made.add_argument("--only", type=int, metavar="ROUND", help="repeat this round of the seed")
    made.add_argument("--field", metavar="SITE-SUITE-NODES", help="only rounds on this field")
    made.add_argument(
        "--go-on", action="store_true",
        help="only rounds that DIRECTORY has not, or has with a broken promise",
    )
    made.add_argument("--minutes", type=float, help="begin no round after so many")
    made.add_argument("--directory", default="chaos", help="default: %(default)s")
    made.set_defaults(function=chaos)
    made = commands.add_parser("chaos-report", help="the table and plot of a campaign")
    made.add_argument("--directory", default="chaos", help="default: %(default)s")
    made.set_defaults(function=chaos_report)
    return top


def main(arguments: list[str] | None = None) -> int:
    """0 done, 1 it failed, 2 this machine cannot run a lab or the command line is wrong."""
    options = parser().parse_args(arguments)
    try:
        return int(options.function(options))
    except CannotRun as trouble:
        for sentence in str(trouble).splitlines():
            print(f"lab: {sentence}", file=sys.stderr)
        return 2
    except (LabFailure, ImageFailure) as trouble:
        print(f"lab: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
