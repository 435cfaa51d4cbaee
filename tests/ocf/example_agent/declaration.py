"""What the throwaway agent declares: a parameter of every kind, and several monitors."""

from __future__ import annotations

from mailman_ha.ocf.declaration import Action, AgentDeclaration, Parameter

DECLARATION = AgentDeclaration(
    name="example",
    shortdesc="An agent whose resource is a file, for tests",
    longdesc="""
        Start makes a file, stop removes it, and monitor looks for it. It says
        "yes" & "no", <never> "perhaps".

        .Nothing else happens; it isn't meant for use\\or pleasure.
    """,
    parameters=(
        Parameter(
            name="mood",
            shortdesc="How to behave",
            longdesc="What the next action does instead of its duty; well means its duty.",
            default="well",
        ),
        Parameter(
            name="directory",
            shortdesc="A directory",
            longdesc="An absolute path that no two such resources share.",
            kind="path",
            default="/nowhere",
            unique_group="place",
        ),
        Parameter(
            name="size",
            shortdesc="How many",
            longdesc="A whole number.",
            kind="integer",
            default="3",
            minimum=1,
        ),
        Parameter(
            name="pace",
            shortdesc="How fast",
            longdesc="A span of time.",
            kind="seconds",
            default="10s",
            reloadable=True,
            minimum=5,
        ),
        Parameter(
            name="quiet",
            shortdesc="Whether to be quiet",
            longdesc="Yes or no.",
            kind="boolean",
            default="false",
        ),
        Parameter(
            name="colour",
            shortdesc="Which colour",
            longdesc="A choice.",
            kind="select",
            values=("red", "green"),
            default="red",
        ),
        Parameter(
            name="label",
            shortdesc="A label to be told apart by",
            longdesc="Any text.",
            required=True,
        ),
    ),
    actions=(
        Action("start", 30),
        Action("stop", 30),
        Action("monitor", 20, interval=10, depth=0),
        Action("monitor", 40, interval=60, depth=10),
        Action("reload-agent", 20),
        Action("notify", 20),
    ),
)
