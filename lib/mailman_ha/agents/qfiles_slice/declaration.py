"""What qfiles-slice tells Pacemaker, pcs, crmsh and man about itself."""

from __future__ import annotations

from mailman_ha.agents.parameters import COMMON, FILES, see_also
from mailman_ha.ocf.declaration import INTEGER, SECONDS, Action, AgentDeclaration, Parameter

DECLARATION = AgentDeclaration(
    name="qfiles-slice",
    shortdesc="One runner of GNU Mailman on one slice of a queue",
    longdesc=(
        "Runs one of GNU Mailman's own runners on one slice of one queue, so that a queue on a "
        "shared file system can be worked on by several nodes, each slice by exactly one.\n\n"
        "Best used as a globally-unique clone, one for each queue: the slice is the clone's "
        "number and slices is clone-max. Set clone-node-max to the same number, so that the "
        "nodes that are left can take all slices. Or make one resource for each slice, with the "
        "parameters slice and slices.\n\n"
        "Each runner is claimed by a lock in Mailman's lock directory, qfiles:QUEUE:SLICE:SLICES"
        ".lock, that names the runner's process. A start is refused while any claim on an "
        "overlapping slice stands whose owner is not proven dead, while another resource of the "
        "cluster is configured for an overlapping slice, while Mailman's master is configured to "
        "run the queue itself, or while a runner that nobody claimed works on it on this node.\n\n"
        "The depth of the slice, the age of its oldest entry in seconds and the number of its "
        "entries in work are published as node attributes RESOURCE-SLICE-depth, -oldest and -bak "
        "at each monitor of level 10."
    ),
    parameters=(
        Parameter(
            "queue",
            "Queue directory",
            "The name of the queue's directory under Mailman's queue directory: in, out, ... . "
            "Mailman's master must not run this queue: take its runner out of QRUNNERS (2.1), or "
            "set start: no and instances to the number of slices in [runner.QUEUE] (3).",
            required=True,
        ),
        Parameter(
            "slice",
            "Number of the slice",
            "Which slice this is, counted from 0. Left out in a globally-unique clone.",
            kind=INTEGER,
            minimum=0,
        ),
        Parameter(
            "slices",
            "Number of slices",
            "Into how many slices the queue is divided, the same for all of them: any number for "
            "Mailman 2.1, a power of two for Mailman 3. Left out in a globally-unique clone.",
            kind=INTEGER,
            minimum=1,
        ),
        *COMMON,
        Parameter(
            "max_queue_age",
            "Age at which the slice stands still",
            "A monitor at level 20 fails where an entry of this slice has waited for longer than "
            "this, and the runner has been up for longer. Queues of deferred messages do not "
            "count. 0: never.",
            kind=SECONDS,
            default="3600",
            reloadable=True,
        ),
    ),
    actions=(
        Action(
            "start", 60,
            purpose="Claims the slice, starts Mailman's runner on it, and waits until it has "
            "opened its queue.",
        ),
        Action(
            "stop", 60,
            purpose="Tells the runner to stop between two messages, ends it with SIGKILL before "
            "the timeout, and gives the claim up.",
        ),
        Action(
            "monitor", 20, interval=15, depth=0,
            purpose="The runner lives, and its claim file still is the slice's lock.",
        ),
        Action(
            "monitor", 30, interval=60, depth=10,
            purpose="Also: no second runner works on the slice, or on a part of it, on this node; "
            "depth and age are published.",
        ),
        Action(
            "monitor", 60, interval=300, depth=20,
            purpose="Also: the slice does not stand still for longer than max_queue_age.",
        ),
        Action("reload-agent", 20),
        Action("status", 20),
    ),
    files=(
        ("LOCK_DIR/qfiles:QUEUE:SLICE:SLICES.lock", "The claim on a slice: a lock by Mailman's own "
         "protocol that names the runner's process."),
        *FILES,
    ),
    see_also=see_also("ocf_mailman_qfiles-slice"),
    example_name="mailman-in",
    example=(("mailman_version", "3"), ("queue", "in")),
    example_clone=(("globally-unique", "true"), ("clone-max", "4"), ("clone-node-max", "4")),
)
