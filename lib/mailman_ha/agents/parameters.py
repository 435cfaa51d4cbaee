"""What every agent of the suite declares alike: parameters (design, "Parameters"), files, and
where to read on."""

from __future__ import annotations

from mailman_ha.ocf.declaration import BOOLEAN, PATH, SELECT, Parameter

COMMON = (
    Parameter(
        "mailman_version",
        "Version of Mailman",
        "Which Mailman this is: 2.1, 3, or auto to take what prefix, bindir and config point at, "
        "or what is installed in the usual places.",
        kind=SELECT,
        values=("auto", "2.1", "3"),
        default="auto",
    ),
    Parameter(
        "prefix",
        "Installation prefix (2.1)",
        "Mailman 2.1: the installation prefix, the directory above bin/mailmanctl. Looked for in "
        "/usr/local/mailman, /usr/lib/mailman and /var/lib/mailman where it is not given.",
        kind=PATH,
    ),
    Parameter(
        "bindir",
        "Program directory (3)",
        "Mailman 3: the directory of the programs mailman, master and runner. Looked for in "
        "/usr/lib/mailman3/bin, /opt/mailman/venv/bin, /usr/local/bin and /usr/bin where it is "
        "not given.",
        kind=PATH,
    ),
    Parameter(
        "config",
        "Configuration file (3)",
        "Mailman 3: the configuration file mailman.cfg. /etc/mailman3/mailman.cfg or "
        "/etc/mailman.cfg where it is not given.",
        kind=PATH,
    ),
    Parameter(
        "user",
        "Mailman's user",
        "The user Mailman runs as. 2.1 names its own; for Mailman 3 list, then mailman, is taken "
        "where it is not given. The uid must be the same on every node.",
    ),
    Parameter(
        "group",
        "Mailman's group",
        "The group Mailman runs as; 2.1's own, or the user's, where it is not given.",
    ),
    Parameter(
        "lock_dir",
        "Lock directory",
        "The directory of Mailman's locks. Asked from Mailman where it is not given; to be set "
        "only where Mailman's own answer is not the path by which this node reaches it.",
        kind=PATH,
    ),
    Parameter(
        "host_map",
        "Host names of the nodes",
        "Pairs node=host, separated by blanks, for nodes whose host name, as Mailman writes it "
        "into its locks (2.1: hostname; 3: the fully qualified name), is neither the node's name "
        "nor that name in the domain of the node that reads it. One host belongs to one node.",
        reloadable=True,
    ),
    Parameter(
        "allow_unfenced",
        "Release locks without fencing",
        "With stonith-enabled=false nothing proves that an offline node is dead, and its locks "
        "are kept. true takes offline for dead: a node that is only cut off then goes on, and "
        "there are two masters on one share.",
        kind=BOOLEAN,
        default="false",
        reloadable=True,
    ),
)

FILES = (
    ("LOCK_DIR/mailman-ha.quarantine/", "The locks and claim files that were released."),
    ("LOCK_DIR/mailman-ha.quarantine/evidence.jsonl", "Why each was released: one line of JSON."),
)

PAGES = (
    ("mailman-ha-site", 5),
    ("ocf_mailman_list-lock-janitor", 7),
    ("ocf_mailman_mailman-master", 7),
    ("ocf_mailman_qfiles-slice", 7),
    ("mailman-ha", 8),
)


def see_also(own: str) -> tuple[tuple[str, int], ...]:
    """The manual pages of the suite but the one called `own`, with their sections."""
    return tuple(page for page in PAGES if page[0] != own)
