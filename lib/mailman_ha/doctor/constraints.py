"""Constraints: the share, then the janitor, then Mailman, with the address, all in one place."""

from __future__ import annotations

from mailman_ha.doctor import share
from mailman_ha.doctor.configuration import (
    ADDRESSES,
    JANITOR,
    MASTER,
    OURS,
    SLICE,
    Configuration,
    Relation,
    Resource,
    reachable,
)
from mailman_ha.doctor.finding import ERROR, WARNING, Finding
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.doctor.observation import Observation

CHECK = "constraints"

_NO_SHARE_FIRST = "a start before the share is mounted is refused, and the node is banned for it"
_NO_SHARE_THERE = "it may be placed on a node that has no share, where it can only fail"
_STOPS_LATE = (
    "the share is unmounted under a Mailman that still runs: the unmount fails, and the node is "
    "fenced"
)


@record
class _Need:
    """`one` must come before `other` and stand where it stands."""

    one: Resource
    other: Resource
    no_order: str
    no_colocation: str
    severity: str = ERROR


def findings(seen: Observation) -> Iterator[Finding]:
    """Order and colocation of everything that Mailman needs."""
    configuration = seen.configuration
    if configuration is None:
        return
    if not configuration.of(*OURS):
        yield Finding(
            CHECK, WARNING, "the cluster has no mailman resource at all",
            "nothing here is kept serving by this suite",
            "start from one of crm-examples/, or: mailman-ha render",
        )
        return
    shares = share.share_resources(seen)
    yield from _lacking_janitor(configuration)
    for need in _needs(configuration, shares):
        yield from _examine(configuration, need)
    yield from _address(configuration)


def _lacking_janitor(configuration: Configuration) -> Iterator[Finding]:
    if configuration.of(JANITOR):
        return
    yield Finding(
        CHECK, WARNING, "there is no list-lock-janitor",
        "a list whose lock a dead node held stands still for up to 5 hours (2.1), and nobody says "
        "so; mailman-master looks only at the locks that it needs itself",
        pcs="pcs resource create mailman-janitor ocf:mailman:list-lock-janitor (crm-examples/)",
        crm="crm configure primitive mailman-janitor ocf:mailman:list-lock-janitor (crm-examples/)",
    )


def _needs(configuration: Configuration, shares: tuple[Resource, ...]) -> Iterator[_Need]:
    janitors = configuration.of(JANITOR)
    for resource in configuration.of(*OURS):
        for one in shares:
            yield _Need(one, resource, _NO_SHARE_FIRST, _NO_SHARE_THERE)
        if resource.agent == JANITOR or not janitors:
            continue
        what = "Mailman" if resource.agent == MASTER else "a slice"
        ordered = [one for one in janitors if _before(configuration, one, resource)]
        yield _Need(
            (ordered or list(janitors))[0], resource,
            f"{what} starts before the dead node's locks are released: a list whose lock is left "
            "stands still until the next sweep",
            f"{what} may run where no janitor sweeps this host's locks", WARNING,
        )


def _before(configuration: Configuration, one: Resource, other: Resource) -> bool:
    return other.id in reachable(one.id, configuration.orders)


def _examine(configuration: Configuration, need: _Need) -> Iterator[Finding]:
    one, other = need.one, need.other
    names = escape(one.outermost), escape(other.outermost)
    optional = "" if other.agent != SLICE else " kind=Optional"
    optional_crm = "Mandatory" if other.agent != SLICE else "Optional"
    if not _before(configuration, one, other):
        yield Finding(
            CHECK, need.severity,
            f"nothing says that {escape(one.id)} starts before {escape(other.id)}",
            need.no_order,
            pcs=f"pcs constraint order start {names[0]} then start {names[1]}{optional}",
            crm=f"crm configure order {names[0]}-before-{names[1]} {optional_crm}: {names[0]} "
                f"{names[1]}",
        )
    else:
        holding = tuple(each for each in configuration.orders if each.symmetrical)
        if other.id not in reachable(one.id, holding):
            yield Finding(
                CHECK, need.severity,
                f"the order of {escape(one.id)} before {escape(other.id)} does not hold when they "
                "stop (symmetrical=false)",
                _STOPS_LATE if need.severity == ERROR else need.no_order,
                "remove symmetrical=false from that order constraint (pcs constraint --full, crm "
                "configure show)",
            )
    if not _together(configuration, other, one):
        wish = any(
            {each.one, each.other} == {one.id, other.id} for each in configuration.weak_colocations
        )
        yield Finding(
            CHECK, need.severity,
            (f"{escape(other.id)} is with {escape(one.id)} only where that is convenient (a score "
             "below INFINITY)" if wish else
             f"nothing keeps {escape(other.id)} where {escape(one.id)} is"),
            need.no_colocation,
            pcs=f"pcs constraint colocation add {names[1]} with {names[0]} INFINITY",
            crm=f"crm configure colocation {names[1]}-with-{names[0]} inf: {names[1]} {names[0]}",
        )


def _together(configuration: Configuration, dependent: Resource, other: Resource) -> bool:
    """Whether `dependent` can only run on a node where `other` runs."""
    clones = {one.id for one in configuration.resources if one.primitive.clone}
    both_ways = [
        *configuration.colocations,
        *(
            Relation(one.other, one.one, one.constraint)
            for one in configuration.colocations
            # What runs once is where its partner is, whichever of the two depends on the other.
            if one.one not in clones and one.other not in clones
        ),
    ]
    return other.id in reachable(dependent.id, both_ways)


def _address(configuration: Configuration) -> Iterator[Finding]:
    addresses = configuration.of(*ADDRESSES)
    for master in configuration.of(MASTER):
        if not addresses:
            continue
        near = [
            one for one in addresses
            if _together(configuration, master, one) or _together(configuration, one, master)
        ]
        name = escape(master.outermost)
        if not near:
            address = escape(addresses[0].outermost)
            yield Finding(
                CHECK, ERROR, f"no address is kept where {escape(master.id)} is",
                "posts and the mail server's LMTP reach a node on which no Mailman runs",
                pcs=f"pcs constraint colocation add {address} with {name} INFINITY",
                crm=f"crm configure colocation {address}-with-{name} inf: {address} {name}",
            )
        elif not any(
            _before(configuration, one, master) or _before(configuration, master, one)
            for one in near
        ):
            address = escape(near[0].outermost)
            yield Finding(
                CHECK, WARNING,
                f"nothing orders {escape(near[0].id)} and {escape(master.id)}",
                "a Mailman 3 that serves LMTP at the address (lmtp_host) fails when it starts "
                "first",
                pcs=f"pcs constraint order start {address} then start {name}",
                crm=f"crm configure order {address}-before-{name} Mandatory: {address} {name}",
            )
