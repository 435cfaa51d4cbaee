"""What the doctor has to say: one thing that was seen, why it matters, and how it is mended."""

from __future__ import annotations

from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ERROR = "error"
WARNING = "warning"
UNSEEN = "could not look"
NOTE = "note"
#: The gravest first.
SEVERITIES = (ERROR, WARNING, UNSEEN, NOTE)


@record
class Finding:
    """One finding. `check` is the subject, `seen` what was found, `matters` what comes of it for
    Mailman. `mend` is what to type, or do, where pcs and crm do not differ; `pcs` and `crm` are
    the same thing for each. Names in the texts are escaped."""

    check: str
    severity: str
    seen: str
    matters: str
    mend: str = ""
    pcs: str = ""
    crm: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"there is no severity {self.severity!r}")
        if not (self.mend or (self.pcs and self.crm)):
            raise ValueError(f"no way out of: {self.seen}")


def sorted_by_weight(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, else in their order."""
    return tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity)))


def needs_somebody(findings: Iterable[Finding]) -> bool:
    """Whether anything but notes is among them: what could not be seen is not known to be fine."""
    return any(one.severity != NOTE for one in findings)
