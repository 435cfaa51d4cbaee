"""Write an agent's declaration as OCF metadata XML.

Two judges read it and contradict each other.  ocf-tester checks it against ra-api-1.dtd, which
knows OCF 1.0 alone; pcs against a schema of OCF 1.1.  The DOCTYPE's internal subset adds to the
former what 1.1 has new, so that both are content (facts, section 5).  The DTD's `content` is
EMPTY and cannot be declared anew, so the values of a select parameter go into its description.
The XML declaration names no encoding, since crmsh cannot parse metadata that does; it is UTF-8.
"""

from __future__ import annotations

from mailman_ha.ocf import declaration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailman_ha.ocf.declaration import Action, AgentDeclaration, Parameter

_HEAD = """\
<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd" [
<!ATTLIST parameter
        unique-group  CDATA  #IMPLIED
        reloadable    (1|0)  "0">
<!ATTLIST action
        name          CDATA  #REQUIRED>
]>
"""
_CONTENT_TYPES = {declaration.INTEGER: "integer", declaration.BOOLEAN: "boolean"}


def metadata_xml(agent: AgentDeclaration) -> str:
    """The whole document, ending in a newline."""
    return _HEAD + "\n".join(_lines(agent)) + "\n"


def paragraphs(text: str) -> list[str]:
    """Split a description at its empty lines; within a paragraph, line ends become spaces."""
    return [
        " ".join(paragraph.split())
        for paragraph in "\n".join(map(str.strip, text.splitlines())).split("\n\n")
        if paragraph.strip()
    ]


def described(parameter: Parameter) -> list[str]:
    """The paragraphs that describe a parameter, with what values it may have."""
    told = paragraphs(parameter.longdesc)
    if parameter.kind == declaration.SELECT:
        told.append(f"Allowed values: {', '.join(parameter.values)}.")
    elif parameter.kind == declaration.SECONDS:
        told.append("A span of time: seconds, or a number with s, min, h or d.")
    if parameter.minimum is not None:
        told.append(f"At least {parameter.minimum}.")
    return told


def _lines(agent: AgentDeclaration) -> Iterator[str]:
    yield f'<resource-agent name="{_text(agent.name)}" version="{_text(agent.version)}">'
    yield "<version>1.1</version>"
    yield ""
    yield _description("longdesc", paragraphs(agent.longdesc))
    yield _description("shortdesc", [agent.shortdesc])
    yield ""
    yield "<parameters>"
    for parameter in agent.parameters:
        yield from _parameter(parameter)
    yield "</parameters>"
    yield ""
    yield "<actions>"
    for action in agent.every_action():
        yield _action(action)
    yield "</actions>"
    yield "</resource-agent>"


def _parameter(parameter: Parameter) -> Iterator[str]:
    attributes = f'name="{_text(parameter.name)}"'
    if parameter.unique_group:
        attributes += f' unique="1" unique-group="{_text(parameter.unique_group)}"'
    attributes += f' required="{int(parameter.required)}" reloadable="{int(parameter.reloadable)}"'
    content = f'type="{_CONTENT_TYPES.get(parameter.kind, "string")}"'
    if parameter.default:
        content += f' default="{_text(parameter.default)}"'
    yield f"<parameter {attributes}>"
    yield _description("longdesc", described(parameter))
    yield _description("shortdesc", [parameter.shortdesc])
    yield f"<content {content}/>"
    yield "</parameter>"


def _action(action: Action) -> str:
    attributes = f'name="{_text(action.name)}" timeout="{action.timeout}s"'
    if action.interval is not None:
        attributes += f' interval="{action.interval}s"'
    if action.depth is not None:
        attributes += f' depth="{action.depth}"'
    return f"<action {attributes}/>"


def _description(element: str, told: list[str]) -> str:
    body = _text("\n\n".join(told))
    if element == "longdesc":
        body = f"\n{body}\n"
    return f'<{element} lang="en">{body}</{element}>'


def _text(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    )
