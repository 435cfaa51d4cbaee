"""The janitor's metrics on a real cluster: they go where it goes, and a crash leaves none."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from lab.client import Lab

from .failover import Standing

PLACE = "/var/lib/prometheus/node-exporter"
FILE = f"{PLACE}/mailman-ha-janitor.prom"
MONITOR = ("monitor", "interval=7s", "timeout=30s", "OCF_CHECK_LEVEL=10")
MARK = f"{PLACE}/not-ours.prom"


@contextlib.contextmanager
def metrics_written(lab: Lab) -> Iterator[None]:
    """The janitor writes metrics, every few seconds, for the length of a with block."""
    for node in lab.node_names:
        lab.run(node, ["mkdir", "-p", PLACE])
        lab.run(node, ["touch", MARK])
    node = lab.wait_serving()
    lab.run(node, ["pcs", "resource", "op", "add", "janitor", *MONITOR])
    lab.run(node, ["pcs", "resource", "update", "janitor", f"textfile_dir={PLACE}"])
    try:
        yield
    finally:
        node = lab.wait_serving()
        lab.run(node, ["pcs", "resource", "update", "janitor", "textfile_dir="])
        lab.run(node, ["pcs", "resource", "op", "remove", "janitor-monitor-interval-7s"])
        for node in lab.online():
            lab.run(node, ["rm", "-rf", PLACE])


def written(lab: Lab, node: str) -> str:
    """The metrics on a node; '' where there are none."""
    return lab.run(node, ["cat", FILE], check=False).stdout


def number(text: str, metric: str) -> float:
    (found,) = re.findall(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
    return float(found)


RELEASES = 'mailman_ha_lock_releases_total{resource="janitor",state="fenced"}'
MASTER = 'mailman_ha_master_running{resource="janitor"}'


def test_metrics_follow_the_janitor_and_tell_what_it_released(standing: Standing) -> None:
    lab = standing.lab
    lost = lab.wait_serving()
    survivor = standing.passive_node(lost)
    with metrics_written(lab):
        before = lab.wait_until(
            f"{lost} has metrics", lambda: MASTER + " 1" in written(lab, lost) and
            written(lab, lost), 90
        )
        assert written(lab, survivor) == ""
        with standing.traffic("metrics"):
            lab.kill(lost)
            lab.wait_until(f"{survivor} serves", lambda: lab.active_node() == survivor, 90)
        after = lab.wait_until(
            f"{survivor} has metrics", lambda: MASTER + " 1" in written(lab, survivor) and
            written(lab, survivor), 60
        )
        assert number(after, RELEASES) > number(before, RELEASES)
        lab.wait_members(90)
        lab.run(lost, ["test", "-e", MARK])  # what lay there outlived the power cut
        lab.wait_until(f"{lost} has none left", lambda: written(lab, lost) == "", 60)
