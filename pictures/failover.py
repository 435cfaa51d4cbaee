"""docs/failover.svg: a failover over time, as the demo has measured it.

`lab demo --svg FILE` draws it. What was measured stands in the picture as JSON, so that it can be
drawn again from itself, and so that the README can say it in words:
`python3 -m pictures.failover README.md docs/failover.svg`.
"""

from __future__ import annotations

import html
import json
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .drawing import Drawing

WIDTH, LEFT, RIGHT = 900, 96, 30
NUMBERS = 54
LANES = {"active": 90, "survivor": 130, "accepted": 172, "delivered": 198}
BEFORE, AFTER = 2.0, 2.0  # seconds shown on both sides of what happened
SHOWN_AS_NONE = 0.05  # seconds: what is shorter has no bar


@dataclass(frozen=True)
class Failover:
    """One failover. Times are in seconds after the power cut; None: it never came to that."""

    active: str
    survivor: str
    fenced: float | None
    address: float | None
    master: float | None
    delivery: float | None
    accepted: Sequence[float]
    delivered: Sequence[float]
    lost: int
    twice: int

    def steps(self) -> list[tuple[float, str]]:
        """What happened, in the order in which it did."""
        named = (
            (0.0, f"the power of {self.active} is cut, in the middle of traffic"),
            (self.fenced, f"{self.active} is fenced: its locks may be released now"),
            (self.address, f"the address answers on {self.survivor}, where the share is mounted"),
            (self.master, f"Mailman's master runs on {self.survivor}"),
            (self.delivery, "the first post is delivered again"),
            (
                next((moment for moment in self.accepted if moment > 0), None),
                "the first new post is accepted",
            ),
        )
        return sorted((moment, what) for moment, what in named if moment is not None)

    def sentence(self) -> str:
        """The whole of it, for the picture's title and for who cannot see it."""
        steps = ", ".join(f"after {moment:.1f} s {what}" for moment, what in self.steps()[1:])
        return (
            f"The power of {self.active} is cut; {steps}. {len(self.accepted)} posts were "
            f"accepted, {self.lost} lost, {self.twice} delivered twice to somebody."
        )


def draw(failover: Failover) -> Drawing:
    """The picture."""
    steps = failover.steps()
    begin, end = -BEFORE, steps[-1][0] + AFTER

    def at(moment: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (moment - begin) / (end - begin)

    floor = LANES["delivered"] + 34
    drawing = Drawing(
        WIDTH, floor + 40 + 24 * len(steps), "One failover over time", failover.sentence()
    )
    drawing.metadata = json.dumps(asdict(failover), separators=(",", ":"))
    drawing.text(20, 30, "One failover, as make demo has measured it", "title")
    apart = next(step for step in (1, 2, 5, 10, 20, 60, 600) if at(step) - at(0) > 40)
    for second in range(-(int(BEFORE) // apart * apart), int(end) + 1, apart):
        drawing.line([(at(second), floor - 4), (at(second), floor + 2)])
        drawing.text(at(second), floor + 16, f"{second} s", "faint small", "middle")
    drawing.line([(LEFT, floor - 4), (WIDTH - RIGHT, floor - 4)])
    free = 0.0
    for place, (moment, what) in enumerate(steps):
        y = floor + 44 + 24 * place
        drawing.line([(at(moment), NUMBERS + 8), (at(moment), floor - 4)], "line dashed")
        free = max(free, at(moment))
        for x, y_of_number in ((free, NUMBERS), (30.0, y - 4)):
            drawing.box(x - 9, y_of_number - 9, 18, 18, "box")
            drawing.text(x, y_of_number + 4, str(place + 1), "small", "middle")
        drawing.text(90, y, f"{moment:.1f} s", "name", "end")
        drawing.text(104, y, what)
        free += 20
    served = failover.delivery if failover.delivery is not None else end
    fenced = failover.fenced if failover.fenced is not None else end
    bars(drawing, at, "active", failover.active, (
        (begin, 0.0, "good", "serves"),
        (0.0, fenced, "bad", "dead?"),
        (fenced, end, "idle", "proven dead"),
    ))
    ready = min(moment for moment in (failover.address, failover.master, served) if moment)
    bars(drawing, at, "survivor", failover.survivor, (
        (begin, fenced, "idle", "stands by"),
        (fenced, ready, "work", "share, janitor, address"),
        (ready, served, "work", "Mailman starts"),
        (served, end, "good", "serves"),
    ))
    for lane, moments in (("accepted", failover.accepted), ("delivered", failover.delivered)):
        drawing.text(20, LANES[lane] + 4, lane)
        for moment in moments:
            if begin <= moment <= end:
                drawing.line(
                    [(at(moment), LANES[lane] - 8), (at(moment), LANES[lane] + 8)], "tick"
                )
    return drawing


def bars(
    drawing: Drawing,
    at: Callable[[float], float],
    lane: str,
    node: str,
    parts: Sequence[tuple[float, float, str, str]],
) -> None:
    """A node's lane: what it is doing when."""
    drawing.text(20, LANES[lane] + 5, node, "name")
    for begin, end, kind, words in parts:
        if end - begin < SHOWN_AS_NONE:
            continue
        drawing.box(at(begin), LANES[lane] - 14, at(end) - at(begin), 28, kind)
        if at(end) - at(begin) > 7 * len(words):
            drawing.text((at(begin) + at(end)) / 2, LANES[lane] + 5, words, "", "middle")


def read(svg: str) -> Failover:
    """The measurements in a picture. Raises ValueError where it has none."""
    found = re.search(r"<metadata>(.*?)</metadata>", svg, re.DOTALL)
    if found is None:
        raise ValueError("the picture holds no measurements")
    return Failover(**json.loads(html.unescape(found[1])))


def put_words(readme: str, svg: str) -> str:
    """The README with what this picture shows as the text in its place."""
    words = textwrap.fill(
        f"Time line of one failover. {read(svg).sentence()}", 96, break_on_hyphens=False
    )
    return re.sub(
        r"!\[[^\]]*\]\(docs/failover\.svg\)", lambda _: f"![{words}](docs/failover.svg)", readme
    )


if __name__ == "__main__":
    page, picture = map(Path, sys.argv[1:])
    page.write_text(put_words(page.read_text("utf-8"), picture.read_text("utf-8")), "utf-8")
