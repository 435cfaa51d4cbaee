"""Write an agent's declaration as a manual page, ocf_PROVIDER_NAME(7).

To print one: `python3 -m mailman_ha.ocf.manual_page mailman_ha.agents.NAME`.
"""

from __future__ import annotations

import sys

from mailman_ha.ocf.metadata_xml import described, paragraphs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.ocf.declaration import Action, AgentDeclaration, Parameter

_PURPOSES = {
    "start": "Starts the resource, and waits until it serves.",
    "stop": "Stops the resource, and waits until nothing of it is left.",
    "monitor": "Checks whether the resource runs, as closely as the check level asks.",
    "reload-agent": "Takes over changed values of reloadable parameters without a restart.",
    "validate-all": "Checks the parameters.",
    "meta-data": "Prints what the agent is, as XML.",
}


def manual_page(agent: AgentDeclaration) -> str:
    """The page in the man macros of troff, ending in a newline."""
    return "\n".join(_lines(agent)) + "\n"


def _lines(agent: AgentDeclaration) -> Iterator[str]:
    page = f"ocf_{agent.provider}_{agent.name}"
    yield (
        f'.TH {troff_word(page.upper())} 7 "" {troff_word("mailman-ha " + agent.version)}'
        ' "OCF resource agents"'
    )
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    yield f"{troff_text(page)} \\- {troff_text(agent.shortdesc)}"
    yield ".SH SYNOPSIS"
    names = dict.fromkeys(action.name for action in agent.every_action())
    yield f".B {troff_text(agent.name)}"
    yield f"[{troff_text(' | '.join(names))}]"
    yield ".SH DESCRIPTION"
    yield from _paragraphs(paragraphs(agent.longdesc))
    yield ".SH SUPPORTED PARAMETERS"
    for parameter in agent.parameters:
        yield from _parameter(parameter)
    yield ".SH SUPPORTED ACTIONS"
    for action in agent.every_action():
        yield from _action(action)
    yield ".SH EXAMPLES"
    yield "With pcs:"
    yield from _example(f"pcs resource create p_{agent.name} {_full_name(agent)}", agent)
    yield ".PP"
    yield "With the crm shell:"
    yield from _example(f"crm configure primitive p_{agent.name} {_full_name(agent)}", agent)
    yield ".SH SEE ALSO"
    yield ".BR pcs (8),"
    yield ".BR crm (8),"
    yield ".BR crm_resource (8),"
    yield ".BR crm_mon (8)"


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
    yield ".TP"
    yield f"\\fB{troff_text(parameter.name)}\\fR ({troff_text(', '.join(traits))})"
    told = [parameter.shortdesc.rstrip(".") + ".", *described(parameter)]
    yield troff_text(told[0])
    for paragraph in told[1:]:
        yield ".sp"
        yield troff_text(paragraph)


def _action(action: Action) -> Iterator[str]:
    yield ".TP"
    level = f", check level {action.depth}" if action.depth is not None else ""
    yield f"\\fB{troff_text(action.name)}\\fR{level}"
    suggested = f"Suggested timeout: {action.timeout}s."
    if action.interval is not None:
        suggested += f" Suggested interval: {action.interval}s."
    yield troff_text(f"{_PURPOSES.get(action.name, '')} {suggested}".strip())


def _example(beginning: str, agent: AgentDeclaration) -> Iterator[str]:
    required = [f"{parameter.name}=VALUE" for parameter in agent.parameters if parameter.required]
    words = [beginning]
    if required:
        words.append(("params " if beginning.startswith("crm ") else "") + " ".join(required))
    for action in agent.actions:
        if action.name == "monitor":
            operation = f"op monitor interval={action.interval or 10}s timeout={action.timeout}s"
            if action.depth:
                operation += f" OCF_CHECK_LEVEL={action.depth}"
            words.append(operation)
        elif action.name in ("start", "stop"):
            words.append(f"op {action.name} timeout={action.timeout}s")
    yield ".PP"
    yield ".in +4n"
    yield ".EX"
    for number, word in enumerate(words):
        indent = "    " if number else ""
        end = " \\e" if number < len(words) - 1 else ""
        yield indent + troff_text(word) + end
    yield ".EE"
    yield ".in"


def _paragraphs(told: list[str]) -> Iterator[str]:
    for number, paragraph in enumerate(told):
        if number:
            yield ".PP"
        yield troff_text(paragraph)


def troff_word(text: str) -> str:
    """`text` as one argument of a macro."""
    return '"' + troff_text(text).replace('"', "\\(dq") + '"'


def troff_text(text: str) -> str:
    """`text` as troff has to read it to print it."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + shown if shown.startswith(".") else shown


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
