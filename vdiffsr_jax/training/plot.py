"""`python -m vdiffsr_jax.training.plot WORKDIR [WORKDIR ...]`: the curves of WORKDIR/log.jsonl as one PNG."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from etils import epath
from PIL import Image, ImageDraw, ImageFont

from vdiffsr_jax.training.metrics import read_log

Curve = list[tuple[int, float]]
Lines = Sequence[Mapping[str, object]]
PANEL = (420, 260)
MARGIN = (58, 30, 14, 26)  # left, top, right, bottom
COLOURS = ("#1f6fb2", "#d1495b", "#2e8b57", "#8e5ea2", "#c77b00", "#4d4d4d")
SCALE = 2  # drawn larger and reduced: smooth lines
NOT_CURVES = ("step", "kind", "time")


def curves(lines: Lines) -> dict[str, dict[str, Curve]]:
    """{metric: {"train" or "eval": [(step, value)]}}, the loss first."""
    found: dict[str, dict[str, Curve]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in NOT_CURVES and isinstance(value, float | int) and math.isfinite(value):
                panel = found.setdefault(name, {})
                panel.setdefault(str(line["kind"]), []).append((int(str(line["step"])), float(value)))
    return dict(sorted(found.items(), key=lambda item: (item[0] != "loss", item[0])))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers between low and high."""
    raw = (high - low) / count or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [step * i for i in range(first, math.floor(high / step + 1e-9) + 1)]


def smoothed(curve: Curve, window: int) -> Curve:
    """Running mean over `window` points."""
    out, total, values = [], 0.0, []
    for step, value in curve:
        values.append(value)
        total += value - (values[-1 - window] if len(values) > window else 0.0)
        out.append((step, total / min(len(values), window)))
    return out


def panel(title: str, series: Mapping[str, Curve]) -> Image.Image:
    """One metric: every curve, with axes; long curves also smoothed."""
    width, height = (s * SCALE for s in PANEL)
    left, top, right, bottom = (m * SCALE for m in MARGIN)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font, bold = (ImageFont.load_default(size * SCALE) for size in (11, 13))
    points = [point for curve in series.values() for point in curve]
    values = sorted(value for _, value in points)
    # The first steps of a run are often far above all others and would flatten the rest.
    low, high = values[0], values[min(len(values) - 1, int(0.98 * len(values)))]
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - pad, high + pad
    last = max(step for step, _ in points) or 1

    def place(step: int, value: float) -> tuple[float, float]:
        x = left + (width - left - right) * step / last
        y = top + (height - top - bottom) * (1 - (min(max(value, low), high) - low) / (high - low))
        return x, y

    for value in ticks(low, high):
        y = place(0, value)[1]
        draw.line((left, y, width - right, y), fill="#e4e4e4", width=SCALE)
        draw.text((left - 6 * SCALE, y), f"{value:.4g}", fill="#555555", font=font, anchor="rm")
    for step in ticks(0, last):
        x = place(round(step), low)[0]
        draw.text((x, height - bottom + 5 * SCALE), f"{step:g}", fill="#555555", font=font, anchor="mt")
    draw.text((left, 8 * SCALE), title, fill="black", font=bold)
    x = width - right
    for (name, curve), colour in reversed(list(zip(series.items(), COLOURS, strict=False))):
        pale = "#" + "".join(f"{(int(colour[i : i + 2], 16) + 2 * 255) // 3:02x}" for i in (1, 3, 5))
        window = max(1, len(curve) // 40)
        for part, fill, thick in ((curve, pale if window > 1 else colour, 1), (smoothed(curve, window), colour, 2)):
            if len(part) > 1 and (window > 1 or fill == colour):
                draw.line([place(*point) for point in part], fill=fill, width=thick * SCALE, joint="curve")
        if len(curve) == 1:
            cx, cy = place(*curve[0])
            draw.ellipse((cx - 3 * SCALE, cy - 3 * SCALE, cx + 3 * SCALE, cy + 3 * SCALE), fill=colour)
        draw.text((x, 9 * SCALE), name, fill=colour, font=font, anchor="rt")
        x -= draw.textlength(name, font=font) + 12 * SCALE
    return image.resize(PANEL, Image.Resampling.LANCZOS)


def sheet(runs: Mapping[str, Lines], only: Sequence[str] = (), columns: int = 3) -> Image.Image:
    """All panels of one run, or of several runs on top of each other, metric by metric.

    Raises: ValueError if nothing is left to draw.
    """
    panels: dict[str, dict[str, Curve]] = {}
    for run, lines in runs.items():
        for metric, series in curves(lines).items():
            for kind, curve in series.items():
                panels.setdefault(metric, {})[f"{run} {kind}" if len(runs) > 1 else kind] = curve
    panels = {name: series for name, series in panels.items() if not only or name in only}
    if not panels:
        raise ValueError("nothing to draw: the log is empty or has none of the metrics asked for")
    rows = -(-len(panels) // columns)
    image = Image.new("RGB", (min(columns, len(panels)) * PANEL[0], rows * PANEL[1]), "white")
    for i, (metric, series) in enumerate(panels.items()):
        image.paste(panel(metric, series), ((i % columns) * PANEL[0], (i // columns) * PANEL[1]))
    return image


def main(argv: Sequence[str] | None = None) -> int:
    """Draw; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vdiffsr_jax.training.plot", description=__doc__)
    parser.add_argument("workdir", type=epath.Path, nargs="+", help="directories of runs; several are overlaid")
    parser.add_argument("--output", type=Path, help="PNG file (default: curves.png in the first directory)")
    parser.add_argument("--only", nargs="*", default=[], metavar="METRIC", help="draw these metrics only")
    args = parser.parse_args(argv)
    output = args.output or args.workdir[0] / "curves.png"
    try:
        image = sheet({str(path.name): read_log(path) for path in args.workdir}, args.only)
        image.save(output)
    except (OSError, ValueError) as error:
        print(f"plot: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {image.width}x{image.height}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
