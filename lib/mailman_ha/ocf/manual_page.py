"""Write an agent's declaration as a manual page, ocf_PROVIDER_NAME(7).

To print one: `python3 -m mailman_ha.ocf.manual_page mailman_ha.agents.NAME`.
"""

from __future__ import annotations

import shlex
import sys

from mailman_ha.ocf import codes, troff
from mailman_ha.ocf.environment import STATE_DIRECTORY
from mailman_ha.ocf.metadata_xml import described, paragraphs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.ocf.declaration import Action, AgentDeclaration, Parameter

_PURPOSES = {
    "start": "Starts the resource, and waits until it serves.",
    "stop": "Stops the resource, and waits until nothing of it is left.",
    "monitor": "Checks whether the resource runs, as closely as the check level asks.",
    "status": "The same as monitor, at check level 0.",
    "reload-agent": "Takes over changed values of reloadable parameters without a restart.",
    "validate-all": "Checks the parameters.",
    "meta-data": "Prints what the agent is, as XML.",
}

#: What an exit code tells, and what Pacemaker does about it (OCF API 1.1, "Return Codes").
EXIT_CODES = {
    codes.SUCCESS: "The action is done. Of a monitor: it runs, and all is well at this level.",
    codes.ERR_GENERIC: "The action failed. Of a monitor: it neither runs as it should nor is it "
    "stopped. Pacemaker stops it and starts it again; a stop that fails has the node fenced.",
    codes.ERR_ARGS: "A parameter cannot be used on this node.",
    codes.ERR_UNIMPLEMENTED: "The agent has no such action.",
    codes.ERR_PERM: "The agent lacks the permission, or a file has the wrong owner.",
    codes.ERR_INSTALLED: "What the agent needs is not installed on this node, which Pacemaker "
    "does not try again until the failure is cleaned up.",
    codes.ERR_CONFIGURED: "The parameters contradict each other or lack one, on any node. "
    "Pacemaker starts it nowhere until that is corrected.",
    codes.NOT_RUNNING: "Of a monitor: nothing of it is left on this node.",
    codes.DEGRADED: "Of a monitor: it runs, but something needs a human. Pacemaker shows it and "
    "does nothing else.",
}

#: The file in which the examples for pcs prepare what belongs together.
_CIB_COPY = "mailman.xml"


def manual_page(agent: AgentDeclaration) -> str:
    """The page in the man macros of troff, ending in a newline."""
    return "\n".join(_lines(agent)) + "\n"


def _lines(agent: AgentDeclaration) -> Iterator[str]:
    yield from troff.heading(
        f"ocf_{agent.provider}_{agent.name}", 7, agent.shortdesc, "OCF resource agents"
    )
    yield ".SH SYNOPSIS"
    names = dict.fromkeys(action.name for action in agent.every_action())
    yield f".B {troff.inline(agent.name)}"
    yield troff.text(f"[{' | '.join(names)}]")
    yield ".SH DESCRIPTION"
    yield from troff.prose(paragraphs(agent.longdesc))
    yield ".SH SUPPORTED PARAMETERS"
    for parameter in agent.parameters:
        yield from _parameter(parameter)
    yield ".SH SUPPORTED ACTIONS"
    for action in agent.every_action():
        yield from _action(action)
    yield ".SH EXIT STATUS"
    yield troff.text(
        "The reason of any but 0 is on the last line of stderr, in the cluster's log, and in "
        "`pcs status --full` or `crm_mon -1rA`: what was found, and what to type."
    )
    for code, told in EXIT_CODES.items():
        yield from troff.entry(f"{troff.bold(str(code))} ({codes.status_words(code)})", [told])
    yield ".SH FILES"
    yield from troff.entries((
        *agent.files,
        (f"{STATE_DIRECTORY}/", "What must not outlive a reboot. HA_RSCTMP in the environment "
         "names another place."),
    ))
    yield ".SH EXAMPLES"
    yield "With pcs:"
    yield from troff.display(pcs_example(agent))
    yield ".PP"
    yield "With the crm shell:"
    yield from troff.display(crm_example(agent))
    yield from troff.see_also((
        *agent.see_also, ("pcs", 8), ("crm", 8), ("crm_resource", 8), ("crm_mon", 8)
    ))


def _full_name(agent: AgentDeclaration) -> str:
    return f"ocf:{agent.provider}:{agent.name}"


def _parameter(parameter: Parameter) -> Iterator[str]:
    traits = ["required" if parameter.required else "optional", parameter.kind]
    if parameter.unique_group:
        traits.append(f"unique in {parameter.unique_group}")
    if parameter.reloadable:
        traits.append("reloadable")
    if parameter.default:
        traits.append(f'default "{parameter.default}"')
    yield from troff.entry(
        f"{troff.bold(parameter.name)} ({troff.inline(', '.join(traits))})",
        [parameter.shortdesc.rstrip(".") + ".", *described(parameter)],
    )


def _action(action: Action) -> Iterator[str]:
    level = f", check level {action.depth}" if action.depth is not None else ""
    suggested = f"Suggested timeout: {action.timeout}s."
    if action.interval is not None:
        suggested += f" Suggested interval: {action.interval}s."
    purpose = action.purpose or _PURPOSES.get(action.name, "")
    yield from troff.entry(troff.bold(action.name) + level, [f"{purpose} {suggested}".strip()])


def pcs_example(agent: AgentDeclaration) -> list[str]:
    """How the agent's example is made with pcs, in the lines of a shell. A clone is handed over as
    one: Pacemaker would start a primitive before it is cloned."""
    name = _example_name(agent)
    words = [f"resource create {name} {_full_name(agent)}", *_parameters(agent),
             *_operations(agent)]
    if not agent.example_clone:
        return _continued(["pcs " + words[0], *words[1:]])
    on_file = f"pcs -f {_CIB_COPY} "
    return [
        f"pcs cluster cib {_CIB_COPY}",
        *_continued([on_file + words[0], *words[1:]]),
        f"{on_file}resource clone {name} meta {_pairs(agent.example_clone)}",
        f"pcs cluster cib-push {_CIB_COPY} --config",
    ]


def crm_example(agent: AgentDeclaration) -> list[str]:
    """The same with the crm shell."""
    name = _example_name(agent)
    parameters = _parameters(agent)
    if parameters:
        parameters[0] = "params " + parameters[0]
    words = [f"primitive {name} {_full_name(agent)}", *parameters, *_operations(agent)]
    if not agent.example_clone:
        return _continued(["crm configure " + words[0], *words[1:]])
    return [
        "crm configure load update - <<END",
        *_continued(words),
        f"clone {name}-clone {name} meta {_pairs(agent.example_clone)}",
        "END",
    ]


def _example_name(agent: AgentDeclaration) -> str:
    return agent.example_name or f"p_{agent.name}"


def _parameters(agent: AgentDeclaration) -> list[str]:
    required = tuple((one.name, "VALUE") for one in agent.parameters if one.required)
    given = agent.example or required
    return [_pairs(given)] if given else []


def _pairs(pairs: tuple[tuple[str, str], ...]) -> str:
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in pairs)


def _operations(agent: AgentDeclaration) -> Iterator[str]:
    for action in agent.actions:
        if action.name == "monitor":
            operation = f"op monitor interval={action.interval or 10}s timeout={action.timeout}s"
            if action.depth:
                operation += f" OCF_CHECK_LEVEL={action.depth}"
            yield operation
        elif action.name in ("start", "stop"):
            yield f"op {action.name} timeout={action.timeout}s interval=0s"


def _continued(words: list[str]) -> list[str]:
    """One command over several lines."""
    return [
        ("    " if number else "") + word + (" \\" if number < len(words) - 1 else "")
        for number, word in enumerate(words)
    ]


def _main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python3 -m mailman_ha.ocf.manual_page AGENT_PACKAGE\n")
        return 2
    from importlib import import_module

    agent: AgentDeclaration = import_module(arguments[1] + ".declaration").DECLARATION
    sys.stdout.write(manual_page(agent))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv))
