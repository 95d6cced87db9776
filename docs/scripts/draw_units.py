"""Draw CoGU and CSPA: python docs/scripts/draw_units.py"""

from __future__ import annotations

from drawing import COLOURS, Drawing, Point

RED, GREEN = "#b3261e", "#2e7d4f"


def cogu() -> None:
    """docs/pictures/cogu.svg: the equations of models/cogu.py from left to right."""
    d = Drawing(980, 350, "CoGU: features and prior are added and mixed; a gate and a modulated value make the update")
    # Features and prior meet.
    d.box((55, 70), "h", "R×R×C", "plain", 70)
    d.box((55, 170), "p", "prior, R×R", "plain", 70)
    d.box((150, 70), "GN, W_h", kind="new", width=80)
    d.box((150, 170), "LN, W_p", kind="new", width=80)
    d.line((90, 70), (109, 70))
    d.line((90, 170), (109, 170))
    d.sign((230, 120), "+")
    d.line((190, 70), (230, 70), (230, 108))
    d.line((190, 170), (230, 170), (230, 132))
    # Neighbours.
    d.line((241, 120), (277, 120))
    d.text((258, 108), "u", 13, "#555")
    d.box((325, 120), "3×3", "depthwise", "new", 92)
    d.line((258, 120), (258, 185), (400, 185), (400, 132))
    d.line((371, 120), (388, 120))
    d.sign((400, 120), "+")
    d.text((425, 108), "v", 13, "#555")
    # Value and gate.
    d.line((411, 120), (440, 120), (440, 70), (466, 70))
    d.line((440, 120), (440, 170), (466, 170))
    d.box((500, 70), "W_v", kind="new", width=64)
    d.box((500, 170), "W_g", kind="new", width=64)
    d.line((532, 70), (571, 70))
    d.box((620, 70), "(1+γ)·m + β", kind="new", width=96)
    d.text((552, 58), "m", 13, "#555")
    d.line((532, 170), (571, 170))
    d.box((620, 170), "σ(· + b)", "gate, 0 … 1", "new", 96)
    d.sign((716, 120), "×")
    d.line((668, 70), (716, 70), (716, 108))
    d.line((668, 170), (716, 170), (716, 132))
    d.box((790, 120), "W_o", "starts at 0", "new", 84)
    d.line((727, 120), (747, 120))
    d.sign((872, 120), "+")
    d.line((832, 120), (860, 120))
    d.line((883, 120), (912, 120))
    d.box((942, 120), "h′", kind="plain", width=56)
    # Around everything.
    d.line((55, 46), (55, 22), (872, 22), (872, 108))
    # The condition.
    d.box((120, 290), "step t", "embedding", "plain", 90)
    d.box((240, 290), "mean of P", "whole pyramid", "plain", 110)
    d.line((120, 314), (120, 332), (330, 332), (330, 307))
    d.line((295, 290), (301, 290))
    d.box((340, 290), "SiLU", kind="new", width=76)
    d.box((450, 290), "W_c", "starts at 0", "new", 84)
    d.line((378, 290), (407, 290))
    d.line((492, 290), (620, 290), (620, 195), colour=GREEN)
    d.line((620, 290), (700, 290), (700, 110), (620, 110), (620, 88), colour=GREEN)
    d.text((630, 240), "b", 14, GREEN, "start")
    d.text((708, 240), "γ, β", 14, GREEN, "start")
    d.save("cogu.svg")


def cspa() -> None:
    """docs/pictures/cspa.svg: what one query of a stage sees in its own scale and in all scales."""
    d = Drawing(990, 510, "CSPA: a query reads its window of the aligned level, and all tokens of all levels")
    fill, edge = COLOURS["new"]
    at = (10.5 / 16, 6.5 / 16)  # the query's place in the unit square

    def place(corner: Point, side: float) -> Point:
        return corner[0] + side * at[0], corner[1] + side * at[1]

    def heading(x: float, *lines: str) -> None:
        d.text((x, 24), lines[0], 15)
        for i, words in enumerate(lines[1:]):
            d.text((x, 46 + 18 * i), words, 12, "#555")

    side = 180.0
    stage, same = (24.0, 90.0), (252.0, 90.0)
    heading(stage[0] + side / 2, "stage of the UNet", "h′, R×R, here 16×16", "q = W_q GN(h′)")
    d.grid(stage, side, 16)
    d.area((stage[0] + side * 10 / 16, stage[1] + side * 6 / 16), side / 16, side / 16, "#f4c7c3")

    heading(same[0] + side / 2, "same scale", "aligned level, 16×16 cells,", "the 8×8 of its window")
    d.area((same[0] + side / 2, same[1]), side / 2, side / 2, fill)
    d.grid(same, side, 16, "none")
    d.area((same[0] + side / 2, same[1]), side / 2, side / 2, "none", edge)

    heading(727, "across scales", "all 680 cells of all ten levels;", "a bias per head and level, moved by the step t")
    small, gap = 80.0, 18.0
    for i, p in enumerate((1, 2, 3, 4, 5, 6, 8, 10, 13, 16)):
        corner = (491 + (i % 5) * (small + gap), 90 + (i // 5) * (small + 26))
        d.area(corner, small, small, fill)
        d.grid(corner, small, p, "none", edge)
        d.dot(place(corner, small), radius=3)
        d.text((corner[0] + small / 2, corner[1] + small + 11), f"{p}×{p}", 11, "#555")
    d.line(place(stage, side), place(same, side), colour=RED, dash="4 3", arrow=False)
    d.dot(place(stage, side))
    d.dot(place(same, side))

    y, out = 350, 425
    d.line((342, 270), (342, 324))
    d.line((727, 296), (727, 324))
    d.box((342, y), "softmax(q·k) v", "bias of relative cells", "new", 150)
    d.box((727, y), "softmax(q·k) v", "bias of level and step", "new", 150)
    d.sign((534, y), ";")
    d.line((417, y), (522, y))
    d.line((652, y), (546, y))
    d.box((534, out), "W_o", "starts at 0", "new", 84)
    d.line((534, y + 11), (534, out - 26))
    d.sign((114, out), "+")
    d.line((492, out), (126, out))
    d.line((114, 270), (114, out - 12))
    d.box((114, 485), "h″", kind="plain", width=56)
    d.line((114, out + 11), (114, 467))
    d.text(
        (600, 480), "The red point is one place in one unit square. Rotary encoding of the cells’ centres", 12, "#555"
    )
    d.text(
        (600, 497), "makes what is near look near, on every level. Keys and values are made once a tile.", 12, "#555"
    )
    d.save("cspa.svg")


if __name__ == "__main__":
    cogu()
    cspa()
