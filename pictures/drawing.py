"""A drawing in SVG that can be read on light and on dark pages, by eyes and by screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

# Each class of shape or text with its colours on a light and on a dark page. The page's own colour
# is drawn as well, so that the picture is readable wherever it is put.
COLOURS = {
    ".page": ("fill: #ffffff; stroke: #d0d7de", "fill: #0d1117; stroke: #30363d"),
    ".box": ("fill: #f6f8fa; stroke: #8c959f", "fill: #161b22; stroke: #6e7681"),
    ".good": ("fill: #b7e4c7; stroke: #2d6a4f", "fill: #1b4332; stroke: #74c69d"),
    ".bad": ("fill: #ffc9c9; stroke: #c92a2a", "fill: #5c1a1a; stroke: #ff8787"),
    ".work": ("fill: #ffe8b3; stroke: #b7791f", "fill: #4d3800; stroke: #e3b341"),
    ".idle": ("fill: #eaeef2; stroke: #8c959f", "fill: #21262d; stroke: #6e7681"),
    ".line": ("stroke: #57606a", "stroke: #8b949e"),
    ".tick": ("stroke: #0969da", "stroke: #58a6ff"),
    "text": ("fill: #1f2328", "fill: #e6edf3"),
    ".faint": ("fill: #59636e", "fill: #9198a1"),
}
SHAPES = """\
text { font-family: sans-serif; font-size: 13px; }
.title { font-size: 16px; font-weight: bold; }
.name { font-weight: bold; }
.small { font-size: 11px; }
.line, .tick { fill: none; }
.dashed { stroke-dasharray: 4 3; }
"""


class Drawing:
    """Shapes and texts, put one over the other in the order in which they come; all in pixels."""

    def __init__(self, width: int, height: int, title: str, description: str) -> None:
        """`title` and `description` are what a screen reader says."""
        self.width, self.height = width, height
        self.title, self.description = title, description
        self.metadata = ""
        self.parts: list[str] = []
        self.box(0.5, 0.5, width - 1, height - 1, "page")

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A box with round corners."""
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="5"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str = "line",
             arrow: bool = False) -> None:  # fmt: skip
        """A line through these points, with an arrow's head at its end where asked."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        head = ' marker-end="url(#head)"' if arrow else ""
        self.parts.append(f'<polyline class="{kind}" points="{path}"{head}/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text whose base line is at `y`."""
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )

    def svg(self) -> str:
        """The whole file."""
        light, dark = (
            "".join(f"{name} {{ {pair[page]}; }}\n" for name, pair in COLOURS.items())
            for page in (0, 1)
        )
        metadata = f"<metadata>{escape(self.metadata)}</metadata>\n" if self.metadata else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" '
            'aria-labelledby="title description">\n'
            f'<title id="title">{escape(self.title)}</title>\n'
            f'<desc id="description">{escape(self.description)}</desc>\n{metadata}'
            f"<style>\n{SHAPES}{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n</style>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto"><path class="line" d="M0,0 L8,4 L0,8"/></marker>'
            "</defs>\n" + "\n".join(self.parts) + "\n</svg>\n"
        )
