"""What mailman-master tells Pacemaker, pcs, crmsh and man about itself."""

from __future__ import annotations

from mailman_ha.agents.parameters import COMMON, FILES, see_also
from mailman_ha.ocf.declaration import SECONDS, Action, AgentDeclaration, Parameter

DECLARATION = AgentDeclaration(
    name="mailman-master",
    shortdesc="GNU Mailman's master and runners on one node at a time",
    longdesc=(
        "Runs the master of GNU Mailman 2.1 or 3, and with it all its runners, on one node of a "
        "cluster whose nodes share Mailman's data.\n\n"
        "A start looks at the master lock first. The lock of an owner that is proven dead (its "
        "process on this host is gone, or its node was fenced after the lock was last touched) is "
        "moved into a quarantine directory, with the evidence; any other lock is kept and the "
        "start is refused with a reason that says what was found and what to type. Mailman's own "
        "-s and --force are never used.\n\n"
        "A stop ends the master and any orphaned runners, also with the share gone. A monitor "
        "finds the master alive and holding the lock (level 0), every configured runner alive "
        "(level 10), and the queues moving (level 20).\n\n"
        "Order it after the file system that holds Mailman's data and colocate it with that and "
        "with the service's address. Keep Mailman's own service (systemd, init, cron) disabled on "
        "every node."
    ),
    parameters=(
        *COMMON,
        Parameter(
            "max_queue_age",
            "Age at which a queue stands still",
            "A monitor at level 20 fails where an entry has waited in a queue for longer than "
            "this, and the master has been up for longer. Queues of deferred messages do not "
            "count. 0: never.",
            kind=SECONDS,
            default="3600",
            reloadable=True,
        ),
    ),
    actions=(
        Action(
            "start", 90,
            purpose="Releases the master lock of an owner that is proven dead, starts Mailman, and "
            "waits until the master holds the lock and every configured runner lives.",
        ),
        Action(
            "stop", 90,
            purpose="Tells each runner to stop between two messages, then the master, and ends "
            "whatever is left, with SIGKILL before the timeout.",
        ),
        Action(
            "monitor", 30, interval=15, depth=0,
            purpose="The master lives, and its own claim file still is the lock.",
        ),
        Action(
            "monitor", 40, interval=60, depth=10,
            purpose="Also: exactly one runner lives on each slice that is the master's, and the "
            "lock is being refreshed.",
        ),
        Action(
            "monitor", 60, interval=300, depth=20,
            purpose="Also: no queue stands still for longer than max_queue_age.",
        ),
        Action("reload-agent", 20),
        Action("status", 30),
    ),
    files=FILES,
    see_also=see_also("ocf_mailman_mailman-master"),
    example_name="mailman",
    example=(("mailman_version", "3"),),
)
