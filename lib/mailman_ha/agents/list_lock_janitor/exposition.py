"""Prometheus' text format (version 0.0.4), as node_exporter's textfile collector reads it. Pure."""

from __future__ import annotations

from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Union

    Sample = tuple[Mapping[str, str], Union[int, float]]

COUNTER = "counter"
GAUGE = "gauge"


@record
class Family:
    """One metric with all its samples, each a pair of labels and value."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def render(families: Iterable[Family], common: Mapping[str, str]) -> bytes:
    """The families as text; every sample has the `common` labels in front of its own.

    A family without samples is left out. Label values are whatever somebody called something:
    they end up as printable ASCII, other bytes as ``\\xNN`` (see `escape`).
    """
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            told = ",".join(
                f'{name}="{_label(text)}"' for name, text in {**common, **labels}.items()
            )
            lines.append(f"{family.name}{{{told}}} {_number(value)}")
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def _label(text: str) -> str:
    return escape(text).replace("\\", "\\\\").replace('"', '\\"')


def _help(text: str) -> str:
    return escape(text).replace("\\", "\\\\")


def _number(value: int | float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 3))
