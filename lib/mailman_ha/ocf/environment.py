"""Read the environment in which Pacemaker starts an agent.  Light: a quick monitor uses it too.

Names are those of the OCF Resource Agent API 1.1 and of Pacemaker's meta attributes; where the
two leave something open, ocf-shellfuncs of resource-agents is followed.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_DIRECTORY = "/run/resource-agents"


def parameter(environ: "Mapping[str, str]", name: str) -> "str | None":
    """The text the cluster configuration gives for a parameter; None if it gives none.

    An empty value reads as none given, as it does in shell agents.
    """
    return environ.get("OCF_RESKEY_" + name) or None


def check_level(environ: "Mapping[str, str]") -> int:
    """How closely a monitor is to look: 0 unless a decimal number is given."""
    given = environ.get("OCF_CHECK_LEVEL") or environ.get("OCF_RESKEY_OCF_CHECK_LEVEL") or ""
    return decimal(given) or 0


def is_probe(environ: "Mapping[str, str]", action: str) -> bool:
    """Whether a monitor only asks if the resource happens to be active here.

    That is a monitor with interval 0; as in ocf-shellfuncs, no interval at all means the same.
    """
    interval = environ.get("OCF_RESKEY_CRM_meta_interval", "0")
    return action == "monitor" and interval == "0"


def state_directory(environ: "Mapping[str, str]") -> str:
    """Where agents keep what must not outlive a reboot: HA_RSCTMP, or its usual place.

    Only the shell library sets HA_RSCTMP, so for an agent run by Pacemaker it is the usual place
    (facts, section 5).
    """
    return environ.get("HA_RSCTMP") or STATE_DIRECTORY


def instance(environ: "Mapping[str, str]", agent_name: str) -> str:
    """The resource's id in the cluster; by hand, where none is given, the agent's name."""
    return environ.get("OCF_RESOURCE_INSTANCE") or agent_name


def node(environ: "Mapping[str, str]") -> "str | None":
    """The cluster's name for this node, as Pacemaker gives it; None by hand."""
    return environ.get("OCF_RESKEY_CRM_meta_on_node") or None


def meta_number(environ: "Mapping[str, str]", name: str) -> "int | None":
    """A whole number among Pacemaker's meta attributes (`clone`, `clone_max`, `timeout`)."""
    return decimal(environ.get("OCF_RESKEY_CRM_meta_" + name, ""))


def decimal(text: str) -> "int | None":
    """The number that ASCII digits spell; None for anything else, also for a sign."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    return None


def exit_reason_line(environ: "Mapping[str, str]", reason: str) -> bytes:
    """The line on stderr from which Pacemaker takes the exit reason."""
    prefix = environ.get("OCF_EXIT_REASON_PREFIX") or "ocf-exit-reason:"
    return f"{prefix}{reason}\n".encode("utf-8", "backslashreplace")


def is_true(word: str) -> bool:
    """Whether a switch is on: the words of ocf_is_true in ocf-shellfuncs."""
    return word in ("yes", "true", "1", "YES", "TRUE", "True", "ja", "on", "ON")


def tracing(environ: "Mapping[str, str]") -> bool:
    """Whether a trace of the agent's doings is asked for."""
    return is_true(environ.get("OCF_TRACE_RA") or environ.get("OCF_RESKEY_trace_ra", ""))
