"""What an agent is, said once: its parameters, its actions, its description.

Everything told to others comes from here: the metadata XML that Pacemaker, pcs and crmsh read,
the manual page, the usage, the check of what the administrator configured, and the defaults.
"""

from __future__ import annotations

from mailman_ha import __version__
from mailman_ha.ocf import environment
from mailman_ha.ocf.deadline import usual_timeout
from mailman_ha.ocf.escape import escape
from mailman_ha.ocf.record import record
from mailman_ha.ocf.values import parse_flag, parse_integer, parse_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

STRING = "string"
PATH = "path"
INTEGER = "integer"
BOOLEAN = "boolean"
SECONDS = "seconds"
SELECT = "select"
KINDS = (STRING, PATH, INTEGER, BOOLEAN, SECONDS, SELECT)

_KEPT_BY_PACEMAKER = ("CRM_meta_", "crm_feature_set", "OCF_CHECK_LEVEL", "trace_ra", "trace_dir")


@record
class Parameter:
    """A parameter of an agent.

    `kind` is one of `KINDS`: `path` is an absolute path, `seconds` a span of time (see
    `values.parse_seconds`), `select` one of `values`.  `default` is text, as it would be
    configured; '' for none.  Parameters of one `unique_group` must together differ between the
    resources of a cluster; a change of a `reloadable` one calls reload-agent instead of a restart
    (OCF Resource Agent API 1.1, "Semantics").  `minimum` is for whole numbers and for seconds.
    Raises ValueError for a declaration that contradicts itself.
    """

    name: str
    shortdesc: str
    longdesc: str
    kind: str = STRING
    default: str = ""
    values: tuple[str, ...] = ()
    required: bool = False
    unique_group: str = ""
    reloadable: bool = False
    minimum: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"parameter {self.name}: there is no kind {self.kind!r}")
        if (self.kind == SELECT) != bool(self.values):
            raise ValueError(f"parameter {self.name}: values belong to the kind select, and only")
        if self.name.startswith(_KEPT_BY_PACEMAKER):
            raise ValueError(f"parameter {self.name}: Pacemaker uses this name itself")
        if self.required and self.default:
            raise ValueError(f"parameter {self.name}: what is required needs no default")
        wrong = self.default and self.fault(self.default)
        if wrong:
            raise ValueError(f"parameter {self.name}: the default {self.default!r} {wrong}")

    def fault(self, text: str) -> str:
        """What is wrong with a value, in words that follow the value; '' if nothing is."""
        if not text.isprintable():
            return "must be printable text on one line"
        if self.kind == SELECT:
            return "" if text in self.values else f"must be one of: {', '.join(self.values)}"
        if self.kind == PATH:
            return "" if text.startswith("/") else "must be an absolute path"
        number: float
        try:
            if self.kind == BOOLEAN:
                parse_flag(text)
                return ""
            if self.kind == INTEGER:
                number = parse_integer(text)
            elif self.kind == SECONDS:
                number = parse_seconds(text)
            else:
                return ""
        except ValueError as error:
            return str(error)
        if self.minimum is not None and number < self.minimum:
            return f"must be at least {self.minimum}"
        return ""


@record
class Action:
    """An action of an agent, with the timeout and interval (seconds) it suggests.

    `depth` is the check level (OCF_CHECK_LEVEL) an entry is meant for; an agent with several
    levels declares one monitor for each.  `purpose` is what it does, for the manual page, where
    that is more than its name tells.
    """

    name: str
    timeout: int
    interval: int | None = None
    depth: int | None = None
    purpose: str = ""


@record
class Fault:
    """A parameter with which the agent cannot work, and what is wrong with it."""

    parameter: str
    problem: str

    def sentence(self, resource: str = "") -> str:
        """What is wrong and the way out; the command to type if a resource has it already."""
        if not resource:
            return f"{self.problem}; give it another value"
        command = f"crm_resource -r {escape(resource)} -p {self.parameter} -v VALUE"
        return f"{self.problem}; set it right with: {command}"


@record
class Examination:
    """What the configuration comes to: values to work with, and what was wrong with it.

    `values` has every declared parameter, with the default in the place of a missing or wrong
    value; `given` has the names that are set, and set right.
    """

    values: Mapping[str, str]
    given: frozenset[str]
    faults: tuple[Fault, ...]


@record
class AgentDeclaration:
    """An agent: `ocf:PROVIDER:NAME`.

    Descriptions are plain text; an empty line parts paragraphs.  `validate-all` and `meta-data`
    need not be declared: every agent has them.

    For the manual page: `files` are (path, what it is), `see_also` (page, section of the manual),
    `example` the parameters of a resource called `example_name`, with the meta attributes
    `example_clone` where it is cloned.
    """

    name: str
    shortdesc: str
    longdesc: str
    parameters: tuple[Parameter, ...]
    actions: tuple[Action, ...]
    provider: str = "mailman"
    version: str = __version__
    files: tuple[tuple[str, str], ...] = ()
    see_also: tuple[tuple[str, int], ...] = ()
    example_name: str = ""
    example: tuple[tuple[str, str], ...] = ()
    example_clone: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError for what no cluster could be configured with."""
        monitors = [action for action in self.actions if action.name == "monitor"]
        declared: dict[str, list[object]] = {
            "parameter": [parameter.name for parameter in self.parameters],
            "action and depth": [(action.name, action.depth or 0) for action in self.actions],
            # Pacemaker tells a resource's monitors apart by their intervals
            "monitor interval": [action.interval for action in monitors],
        }
        for what, names in declared.items():
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise ValueError(f"{self.name}: {what} {twice[0]} is declared twice")

    def every_action(self) -> tuple[Action, ...]:
        """The declared actions and the two that every agent has."""
        declared = {action.name for action in self.actions}
        common = (Action("validate-all", 20), Action("meta-data", 5))
        return self.actions + tuple(action for action in common if action.name not in declared)

    def timeout(self, action: str, level: int = 0) -> float:
        """Seconds this action is declared to need, for a monitor at this check level."""
        fitting = [entry for entry in self.every_action() if entry.name == action]
        for entry in sorted(fitting, key=lambda entry: entry.depth or 0, reverse=True):
            if (entry.depth or 0) <= level:
                return float(entry.timeout)
        return float(fitting[0].timeout) if fitting else usual_timeout(action)

    def check_level(self, action: str, asked: int) -> int:
        """The highest check level the action offers that is not above the one asked for.

        (OCF Resource Agent API 1.1, "Check Levels": take the next lower level supported.)  An
        action declared without any depth is handed what was asked for.
        """
        depths = [entry.depth for entry in self.every_action() if entry.name == action]
        offered = [depth for depth in depths if depth is not None]
        if not offered:
            return asked
        return max((depth for depth in offered if depth <= asked), default=0)

    def examine(self, environ: Mapping[str, str]) -> Examination:
        """Hold what is configured against what is declared."""
        values: dict[str, str] = {}
        given: list[str] = []
        faults: list[Fault] = []
        for parameter in self.parameters:
            text = environment.parameter(environ, parameter.name)
            values[parameter.name] = parameter.default
            if text is None:
                if parameter.required:
                    about = f"parameter {parameter.name} ({parameter.shortdesc})"
                    faults.append(Fault(parameter.name, f"{about} is required but not set"))
                continue
            wrong = parameter.fault(text)
            if wrong:
                about = f"parameter {parameter.name} is '{escape(text, 80)}'"
                faults.append(Fault(parameter.name, f"{about} but {wrong}"))
            else:
                values[parameter.name] = text
                given.append(parameter.name)
        return Examination(values, frozenset(given), tuple(faults))

    def metadata(self) -> str:
        """The metadata as XML (OCF Resource Agent API 1.1, "Resource Agent Meta-Data")."""
        from mailman_ha.ocf.metadata_xml import metadata_xml

        return metadata_xml(self)

    def manual_page(self) -> str:
        """The manual page, ocf_PROVIDER_NAME(7), in troff."""
        from mailman_ha.ocf.manual_page import manual_page

        return manual_page(self)

    def usage(self) -> str:
        """How to call the agent by hand, ending in a newline."""
        names = dict.fromkeys(action.name for action in self.every_action())
        words = "|".join([*names, "status", "usage"])
        return (
            f"usage: {self.name} {{{words}}}\n"
            "\n"
            f"{self.shortdesc}\n"
            "\n"
            "Pacemaker calls this; parameters come as OCF_RESKEY_NAME in the environment.\n"
            f"To try it by hand: OCF_RESOURCE_INSTANCE=test {self.name} status\n"
            f"The parameters are described in ocf_{self.provider}_{self.name}(7).\n"
        )
