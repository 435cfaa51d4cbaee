"""What list-lock-janitor tells Pacemaker, pcs, crmsh and man about itself."""

from __future__ import annotations

from mailman_ha.agents.parameters import COMMON, FILES, see_also
from mailman_ha.ocf.declaration import INTEGER, PATH, SECONDS, Action, AgentDeclaration, Parameter

DECLARATION = AgentDeclaration(
    name="list-lock-janitor",
    shortdesc="Releases Mailman's locks whose owner is proven dead",
    longdesc=(
        "Sweeps the lock directory of GNU Mailman 2.1 or 3 when it starts, at every monitor and "
        "when it stops. A lock or claim file whose owner is proven dead (its process on this host "
        "is gone, or its node was fenced after the last touch) is moved into the directory "
        "mailman-ha.quarantine inside the lock directory, and one line of JSON with the evidence "
        "is added to evidence.jsonl there. Every other lock is kept.\n\n"
        "With Mailman 2.1, a monitor at level 10 also mends what dead writers left of a list's "
        "configuration: a complete temporary file that is no older than config.pck.last becomes "
        "the missing config.pck, any other is put in quarantine. With Mailman 3, it puts aside the "
        "locks that dead processes left on the lists' digest mailboxes, and returns the messages "
        "that were shunted for them.\n\n"
        "A lock that cannot be released and is older than stuck_after makes the resource degraded "
        "(190), with the reason and what to type. So does a half-finished save whose writer is "
        "not proven dead where it may be the newest state of a list without config.pck.\n\n"
        "Run it as a clone on every node that has the share mounted, or as a member of a group "
        "between the file system and mailman-master. It needs no daemon."
    ),
    parameters=(
        *COMMON,
        Parameter(
            "lists_dir",
            "Directory of the lists",
            "Mailman 2.1: the directory of the lists' configurations. Asked from Mailman where it "
            "is not given.",
            kind=PATH,
        ),
        Parameter(
            "stuck_after",
            "When a kept lock is worth a human",
            "A lock that is kept because its owner can be proven neither dead nor alive makes the "
            "resource degraded once it is older than this.",
            kind=SECONDS,
            default="600",
            reloadable=True,
        ),
        Parameter(
            "quarantine_keep",
            "Days to keep what was released",
            "Files in quarantine are removed after this many days; 0 keeps them for ever.",
            kind=INTEGER,
            default="30",
            minimum=0,
            reloadable=True,
        ),
        Parameter(
            "textfile_dir",
            "Directory for Prometheus metrics",
            "The directory of node_exporter's textfile collector (Debian: "
            "/var/lib/prometheus/node-exporter). A monitor at level 10 writes metrics on locks, "
            "queues and runners there, into a file of this resource's own; a stop removes it. Not "
            "given: none are written.",
            kind=PATH,
            reloadable=True,
        ),
    ),
    actions=(
        Action("start", 60, purpose="Sweeps the lock directory before Mailman is started."),
        Action(
            "stop", 30,
            purpose="Sweeps once more, so that a node that leaves cleans up after itself.",
        ),
        Action("monitor", 30, interval=15, depth=0, purpose="Sweeps the lock directory."),
        Action(
            "monitor", 60, interval=120, depth=10,
            purpose="Also: mends half-finished saves of lists (2.1), puts the dead locks on "
            "digests aside (3), removes from quarantine what is older than quarantine_keep, and "
            "writes the metrics.",
        ),
        Action("reload-agent", 20),
        Action("status", 30),
    ),
    files=FILES,
    see_also=see_also("ocf_mailman_list-lock-janitor"),
    example_name="mailman-janitor",
    example=(("mailman_version", "2.1"), ("prefix", "/usr/local/mailman")),
    example_clone=(("interleave", "true"),),
)
