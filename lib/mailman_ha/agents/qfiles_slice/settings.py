"""Which slice of which queue a resource is configured for: from its parameters or its clone."""

from __future__ import annotations

from mailman_ha.ocf import codes
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.outcome import Refusal
from mailman_ha.ocf.record import record
from mailman_ha.queues import slices
from mailman_ha.queues.slices import Slice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mailman_ha.ocf.call import Call


@record
class Wanted:
    """What the resource is to serve; `resource` is its id in the CIB."""

    resource: str
    queue: str
    slice: Slice

    @property
    def lock_name(self) -> str:
        """The lock in lock_dir by which a runner holds this slice."""
        return slices.lock_name(self.queue, self.slice)

    @property
    def text(self) -> str:
        """``in:0:4``, as Mailman writes it."""
        return f"{self.queue}:{self.slice.number}:{self.slice.count}"


def resource_id(instance: str) -> str:
    """The id in the CIB of a resource `instance`; a clone's instances are called ``ID:NUMBER``."""
    head, colon, number = instance.rpartition(":")
    return head if colon and head and number.isascii() and number.isdigit() else instance


def wanted(call: Call) -> Wanted:
    """The slice that the configuration means. Refuses (ERR_CONFIGURED) what means none."""
    number, count = _numbers(call)
    if number >= count:
        raise Refusal(
            codes.ERR_CONFIGURED,
            f"there is no slice {number} of {count}: slices count from 0, so slice must be at "
            f"most {count - 1}",
        )
    slice = Slice(number, count)
    queue = call.text("queue")
    try:
        slices.lock_name(queue, slice)
    except ValueError as error:
        raise Refusal(codes.ERR_CONFIGURED, escape(str(error), 300)) from error
    return Wanted(resource_id(call.instance), queue, slice)


def _numbers(call: Call) -> tuple[int, int]:
    """The slice's number and how many there are. Refuses what contradicts itself."""
    given = [name for name in ("slice", "slices") if call.text(name)]
    if call.clone_number is None:
        if len(given) < 2:
            raise Refusal(
                codes.ERR_CONFIGURED,
                "it is not said which slice this is: make the resource a clone with "
                "globally-unique=true (slice is then the clone's number, slices is clone-max), or "
                "set both slice and slices",
            )
        return call.integer("slice"), call.integer("slices")
    if not call.globally_unique:
        raise Refusal(
            codes.ERR_CONFIGURED,
            "a clone whose instances are all alike cannot have slices: set the clone's meta "
            "attribute globally-unique=true",
        )
    if given:
        raise Refusal(
            codes.ERR_CONFIGURED,
            f"in a clone each instance's slice is its own number: remove {' and '.join(given)}",
        )
    if call.clone_max is None:
        raise Refusal(
            codes.ERR_CONFIGURED, "set the clone's meta attribute clone-max: the number of slices"
        )
    return call.clone_number, call.clone_max
