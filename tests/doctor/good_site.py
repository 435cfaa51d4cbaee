"""A site that is set up right, as a CIB and as an observation; tests spoil one thing at a time."""

from __future__ import annotations

from mailman_ha.doctor import configuration, node_facts
from mailman_ha.doctor.configuration import Configuration
from mailman_ha.doctor.examination import examine
from mailman_ha.doctor.finding import Finding
from mailman_ha.doctor.node_facts import NodeFacts
from mailman_ha.doctor.observation import FencingEvent, Observation, Place
from mailman_ha.evidence import mounts
from mailman_ha.evidence.clocks import ClockSkew
from mailman_ha.evidence.cluster import Cluster, Node
from mailman_ha.evidence.hosts import ThisHost
from mailman_ha.mailman.asking import Answer
from mailman_ha.mailman.installation import Installation, User
from mailman_ha.mailman.location import Location
from mailman_ha.ocf.record import replace

VAR = "/var/lib/mailman3"

#: As Linux 6.1 shows NFSv4.2 mounts.
NFS_LINE = (
    "120 27 0:53 / /var/lib/mailman3 rw,relatime shared:70 - nfs4 nfs.example.org:/export/mailman "
    "rw,vers=4.2,rsize=262144,wsize=262144,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,"
    "clientaddr=192.0.2.1,lookupcache=none,local_lock=none,addr=192.0.2.9"
)
ROOT_LINE = "27 1 254:0 / / rw,relatime - ext4 /dev/vda1 rw,errors=remount-ro"
MOUNTINFO = f"{ROOT_LINE}\n28 27 0:22 / /run rw,nosuid - tmpfs tmpfs rw,size=1000k\n{NFS_LINE}\n"


def attributes(kind: str, name: str, **pairs: str) -> str:
    return (
        f'<{kind}_attributes id="{name}-{kind}">'
        + "".join(
            f'<nvpair id="{name}-{key}" name="{key.replace("__", "-")}" value="{value}"/>'
            for key, value in pairs.items()
        )
        + f"</{kind}_attributes>"
    )


def operation(owner: str, name: str, interval: str, timeout: str, level: int = 0) -> str:
    ident = f"{owner}-{name}-{interval}"
    inside = attributes("instance", ident, OCF_CHECK_LEVEL=str(level)) if level else ""
    return (
        f'<op id="{ident}" name="{name}" interval="{interval}" timeout="{timeout}">{inside}</op>'
    )


def primitive(name: str, agent: str, operations: str = "", **parameters: str) -> str:
    kind, provider, what = agent.split(":")
    return (
        f'<primitive id="{name}" class="{kind}" provider="{provider}" type="{what}">'
        + (attributes("instance", name, **parameters) if parameters else "")
        + f"<operations>{operations}</operations></primitive>"
    )


def fence(node: str) -> str:
    return (
        f'<primitive id="fence-{node}" class="stonith" type="fence_ipmilan">'
        + attributes("instance", f"fence-{node}", pcmk_host_list=node) + "</primitive>"
    )


SHARE = primitive(
    "share", "ocf:heartbeat:Filesystem",
    operation("share", "start", "0", "60s") + operation("share", "stop", "0", "60s")
    + operation("share", "monitor", "20s", "40s"),
    device="nfs.example.org:/export/mailman", directory=VAR, fstype="nfs4",
    options="hard,lookupcache=none",
)
JANITOR = primitive(
    "janitor", "ocf:mailman:list-lock-janitor",
    operation("janitor", "start", "0", "60s") + operation("janitor", "stop", "0", "30s")
    + operation("janitor", "monitor", "15s", "30s")
    + operation("janitor", "monitor", "120s", "60s", 10),
    mailman_version="3",
)
ADDRESS = primitive("address", "ocf:heartbeat:IPaddr2", ip="192.0.2.10")
MASTER = primitive(
    "mailman", "ocf:mailman:mailman-master",
    operation("mailman", "start", "0", "90s") + operation("mailman", "stop", "0", "90s")
    + operation("mailman", "monitor", "15s", "30s")
    + operation("mailman", "monitor", "60s", "40s", 10),
    mailman_version="3",
)


def slice_clone(queue: str = "in", name: str = "", **meta: str) -> str:
    name = name or f"mailman-{queue}"
    given = {"globally__unique": "true", "clone__max": "4", "clone__node__max": "4", **meta}
    return (
        f'<clone id="{name}-clone">'
        + attributes("meta", f"{name}-clone", **{k: v for k, v in given.items() if v})
        + primitive(name, "ocf:mailman:qfiles-slice", slice_operations(name), queue=queue)
        + "</clone>"
    )


def slice_operations(name: str) -> str:
    return (
        operation(name, "start", "0", "60s") + operation(name, "stop", "0", "60s")
        + operation(name, "monitor", "15s", "20s") + operation(name, "monitor", "60s", "30s", 10)
    )


GROUP = f'<group id="mail">{SHARE}{JANITOR}{ADDRESS}{MASTER}</group>'
FENCES = fence("mail1") + fence("mail2")


def cib(
    resources: str = GROUP, constraints: str = "", *, fences: str = FENCES,
    nodes: tuple[str, ...] = ("mail1", "mail2"), properties: str = "", others: str = "",
    status: str = "",
) -> str:
    """A whole CIB."""
    members = "".join(f'<node id="{number}" uname="{name}"/>' for number, name in
                      enumerate(nodes, 1))
    return (
        '<cib crm_feature_set="3.16.1" validate-with="pacemaker-3.8" epoch="1" num_updates="0" '
        'admin_epoch="0"><configuration><crm_config><cluster_property_set '
        f'id="cib-bootstrap-options">{properties}</cluster_property_set></crm_config>'
        f"<nodes>{members}</nodes><resources>{fences}{resources}</resources>"
        f"<constraints>{constraints}</constraints>{others}</configuration>"
        f"<status>{status}</status></cib>"
    )


def order(first: str, then: str, **more: str) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<rsc_order id="o-{first}-{then}" first="{first}" then="{then}"{extra}/>'


def colocation(one: str, other: str, score: str = "INFINITY") -> str:
    return f'<rsc_colocation id="c-{one}-{other}" rsc="{one}" with-rsc="{other}" score="{score}"/>'


def configured(text: str) -> Configuration:
    return configuration.parse(text.encode())


def in_a_file(text: str) -> tuple[Finding, ...]:
    """The findings on a configuration alone."""
    return examine(Observation(configuration=configured(text), from_file=True))


QUEUES = ("archive", "bounces", "command", "digest", "in", "nntp", "out", "pipeline", "retry",
          "shunt", "virgin", "bad")
ANSWER = Answer(
    lock_dir=f"{VAR}/locks", queue_dir=f"{VAR}/queue", lists_dir=f"{VAR}/lists", var_dir=VAR,
    pid_file="/run/mailman3/master.pid", bin_dir="/usr/lib/mailman3/bin", log_dir="/var/log",
    master_lock=f"{VAR}/locks/master.lck", release="3.3.10", config="/etc/mailman3/mailman.cfg",
    runners=tuple((name, 1) for name in QUEUES if name not in ("shunt", "bad", "nntp")),
    queues=tuple((name, f"{VAR}/queue/{name}") for name in QUEUES),
    instances=tuple((name, 1) for name in QUEUES),
)
SITE = Installation(
    Location("3", ("/usr/lib/mailman3/bin",), config="/etc/mailman3/mailman.cfg"), ANSWER,
    User("list", 38, 38), f"{VAR}/locks",
)
TABLE = mounts.parse(MOUNTINFO)


def facts(node: str, **changes: object) -> NodeFacts:
    told: dict[str, object] = {
        **node_facts.of_site(SITE), "offset": 0, "synchronised": True, "day": "20261124", **changes,
    }
    host = str(told.pop("host", f"{node}.example.org"))
    return NodeFacts(host, **told)  # type: ignore[arg-type]


def places(text: str = MOUNTINFO, var: str = VAR) -> tuple[Place, ...]:
    table = mounts.parse(text)
    found = []
    for what, path in (("the lock directory", f"{var}/locks"),
                       ("the queue directory", f"{var}/queue"), ("Mailman's var directory", var)):
        mount = mounts.of_path(path, table)
        assert mount is not None
        major, _, minor = mount.device.partition(":")
        found.append(Place(what, path, path, int(major) << 8 | int(minor), mount))
    return tuple(found)


GOOD = Observation(
    configuration=configured(cib()),
    cluster=Cluster(
        {name: Node(name, online=True, unclean=False) for name in ("mail1", "mail2")},
        have_quorum=True, fencing_enabled=True, maintenance=False,
    ),
    fencing_events=tuple(
        FencingEvent(name, "reboot", "success", 1000.0) for name in ("mail1", "mail2")
    ),
    able={"mail1": ("fence-mail1",), "mail2": ("fence-mail2",)},
    node="mail1",
    this_host=ThisHost("mail1", "mail1.example.org", "mail1"),
    site=SITE,
    host_map={},
    places=places(),
    mounts=TABLE,
    skew=ClockSkew(0.01, 0.05),
    synchronised=True,
    facts={"mail1": facts("mail1"), "mail2": facts("mail2")},
)


def spoiled(**changes: object) -> tuple[Finding, ...]:
    """The findings on the good site after these changes of its observation."""
    return examine(replace(GOOD, **changes))


def only(findings: tuple[Finding, ...]) -> Finding:
    """The one finding there is."""
    assert len(findings) == 1, [one.seen for one in findings]
    return findings[0]


def texts(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(one.check, one.severity, one.seen) for one in findings]
