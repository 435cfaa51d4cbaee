"""What an action comes to: an exit code, and the sentence that says why."""

from __future__ import annotations

from mailman_ha.ocf.record import record


@record
class Outcome:
    """An action's exit code (see `codes`) and reason.

    The reason is one sentence for the administrator, naming the thing, what is wrong with it and
    the way out; Pacemaker shows it in `crm_mon`.  It is empty only where nothing needs saying.
    """

    code: int
    reason: str = ""


class Refusal(Exception):
    """Ends an action from anywhere inside it, with an exit code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.outcome = Outcome(code, reason)

    def __str__(self) -> str:
        return self.outcome.reason
