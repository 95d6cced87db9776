"""Boxes, arrows and grids as SVG, in the colours of docs/dataflow.svg."""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import escape

PICTURES = Path(__file__).parents[1] / "pictures"
COLOURS = {"plain": ("#ffffff", "#444444"), "net": ("#e8f0fe", "#4a6fa5"), "frozen": ("#f3f3f3", "#888888"),
           "new": ("#fff3d6", "#c58b1a")}  # fmt: skip
Point = tuple[float, float]


class Drawing:
    """A white sheet; places in pixels from the top left, boxes by their centre."""

    def __init__(self, width: int, height: int, title: str):
        self.size = (width, height)
        self.parts = [
            f"<title>{escape(title)}</title>",
            '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]

    def text(self, at: Point, words: str, size: int = 14, colour: str = "#111", anchor: str = "middle") -> None:
        """One line, its middle at `at`; `_x` is an index."""
        words = re.sub(r"_(\w)", r'<tspan baseline-shift="sub" font-size="75%">\1</tspan>', escape(words))
        self.parts.append(
            f'<text x="{at[0]:g}" y="{at[1] + 0.35 * size:g}" font-size="{size}" fill="{colour}" '
            f'text-anchor="{anchor}">{words}</text>'
        )

    def box(self, at: Point, words: str, under: str = "", kind: str = "net", width: float = 84) -> None:
        """A box with one line, and a smaller one under it."""
        fill, edge = COLOURS[kind]
        height = 48 if under else 34
        x, y = at[0] - width / 2, at[1] - height / 2
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height}" rx="6" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.5"/>'
        )
        self.text((at[0], at[1] - (8 if under else 0)), words)
        if under:
            self.text((at[0], at[1] + 11), under, 11, "#555")

    def sign(self, at: Point, words: str) -> None:
        """A small circle: a sum, a product."""
        self.parts.append(
            f'<circle cx="{at[0]:g}" cy="{at[1]:g}" r="11" fill="#fff" stroke="#444" stroke-width="1.5"/>'
        )
        self.text(at, words, 15)

    def line(self, *points: Point, colour: str = "#444", dash: str = "", arrow: bool = True) -> None:
        """Straight pieces from point to point."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        end = ' marker-end="url(#a)"' if arrow else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}{end}/>')

    def grid(self, at: Point, side: float, cells: int, fill: str = "#ffffff", edge: str = "#8a8a8a") -> None:
        """A square of cells x cells, its top left corner at `at`."""
        x, y = at
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.2"/>'
        )
        inner = [side * i / cells for i in range(1, cells)]
        path = "".join(f"M{x + s:g} {y:g}V{y + side:g}M{x:g} {y + s:g}H{x + side:g}" for s in inner)
        self.parts.append(f'<path d="{path}" stroke="{edge}" stroke-width="0.6" fill="none"/>')

    def area(self, at: Point, width: float, height: float, fill: str, edge: str = "none") -> None:
        """A coloured rectangle, its top left corner at `at`."""
        self.parts.append(
            f'<rect x="{at[0]:g}" y="{at[1]:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.8"/>'
        )

    def dot(self, at: Point, colour: str = "#b3261e", radius: float = 4) -> None:
        """A point."""
        self.parts.append(f'<circle cx="{at[0]:g}" cy="{at[1]:g}" r="{radius:g}" fill="{colour}"/>')

    def save(self, name: str) -> None:
        """Write docs/pictures/NAME."""
        width, height = self.size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="Helvetica, Arial, sans-serif">'
        )
        (PICTURES / name).write_text("\n".join([head, *self.parts, "</svg>"]) + "\n")
