"""What is told of the metrics: every one is documented as it is, and the example alerts hold."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mailman_ha.agents.list_lock_janitor import metrics
from mailman_ha.agents.list_lock_janitor.metrics import QueueSeen
from mailman_ha.ocf.record import replace
from mailman_ha.queues.entries import Backlog

from tests.agents.test_metrics_judging import SEEN

CHECKOUT = Path(__file__).resolve().parent.parent.parent
ALERTS = CHECKOUT / "docs" / "alerts.yml"
ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")


def promtool(*words: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode()


def test_each_metric_is_documented_with_its_type_and_its_labels() -> None:
    families = metrics.families(replace(SEEN, queues=(QueueSeen("in", (Backlog(),)),)))
    made = {
        one.name: (one.kind, {label for labels, _ in one.samples for label in labels})
        for one in families
    }
    rows = [
        [cell.strip() for cell in line.split("|")]
        for line in (CHECKOUT / "docs" / "metrics.md").read_text().splitlines()
        if line.startswith("| `mailman_ha_")
    ]
    told = {
        name.strip("`"): (kind, set(re.findall(r"`(\w+)`", labels)))
        for _, name, kind, labels, *_ in rows
    }
    assert told == made


def test_states_in_the_documentation_are_those_of_the_metrics() -> None:
    text = (CHECKOUT / "docs" / "metrics.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| `mailman_ha_locks` ")]
    states = row.partition("`state` is ")[2].partition(". The last")[0]
    assert tuple(re.findall(r"`([a-z ]+)`", states)) == metrics.STATES


def test_example_alerts_are_sound_and_use_metrics_that_there_are() -> None:
    promtool("check", "rules", ALERTS)
    made = {one.name for one in metrics.families(SEEN)}
    used = set(re.findall(r"mailman_ha_\w+", ALERTS.read_text()))
    assert used and used <= made


def test_each_alert_fires_when_it_is_to_and_not_before() -> None:
    promtool("test", "rules", ALERTS_TEST)
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    text = ALERTS_TEST.read_text()
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels", text))
    silent = set(re.findall(r"alertname: (\w+)}", text))
    assert alerts == fired
    assert silent >= alerts - {"MailmanRunnerUnexpected"}
