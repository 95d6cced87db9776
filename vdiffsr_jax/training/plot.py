"""`python -m vdiffsr_jax.training.plot WORKDIR [WORKDIR ...]`: the curves of WORKDIR/log.jsonl as one PNG.

Drawn by matplotlib: pip install "vdiffsr-jax[plots]".
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epath

from vdiffsr_jax.photos.write import write_whole
from vdiffsr_jax.training.metrics import read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = list[tuple[int, float]]
Lines = Sequence[Mapping[str, object]]
PANEL = (4.2, 2.6)  # inches
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


def smoothed(curve: Curve, window: int) -> Curve:
    """Running mean over `window` points, of fewer at the start."""
    values = [value for _, value in curve]
    return [(step, statistics.fmean(values[max(0, i - window) : i])) for i, (step, _) in enumerate(curve, 1)]


def panel(axes: Axes, title: str, series: Mapping[str, Curve]) -> None:
    """One metric: every curve; long ones pale, with their running mean."""
    for i, (name, curve) in enumerate(series.items()):
        window, colour = max(1, len(curve) // 40), f"C{i}"
        if window > 1:
            axes.plot(*zip(*curve, strict=True), color=colour, alpha=0.3, linewidth=1)
        marker = "o" if len(curve) == 1 else None
        axes.plot(*zip(*smoothed(curve, window), strict=True), color=colour, marker=marker, label=name)
    values = sorted(value for curve in series.values() for _, value in curve)
    # The first steps of a run are often far above all others and would flatten the rest.
    low, high = values[0], values[min(len(values) - 1, int(0.98 * len(values)))]
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set(title=title, ylim=(low - pad, high + pad))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def sheet(runs: Mapping[str, Lines], only: Sequence[str] = (), columns: int = 3) -> Figure:
    """All panels of one run, or of several runs on top of each other, metric by metric.

    Raises: ValueError if nothing is left to draw; ModuleNotFoundError without matplotlib.
    """
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, Curve]] = {}
    for run, lines in runs.items():
        for metric, series in curves(lines).items():
            for kind, curve in series.items():
                panels.setdefault(metric, {})[f"{run} {kind}" if len(runs) > 1 else kind] = curve
    panels = {name: series for name, series in panels.items() if not only or name in only}
    if not panels:
        raise ValueError("nothing to draw: the log is empty or has none of the metrics asked for")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(columns * PANEL[0], rows * PANEL[1]), layout="constrained")
    for i, (metric, series) in enumerate(panels.items()):
        panel(figure.add_subplot(rows, columns, i + 1), metric, series)
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    """Draw; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vdiffsr_jax.training.plot", description=__doc__)
    parser.add_argument("workdir", type=epath.Path, nargs="+", help="directories of runs; several are overlaid")
    parser.add_argument("--output", type=Path, help="PNG file (default: curves.png in the first directory)")
    parser.add_argument("--only", nargs="*", default=[], metavar="METRIC", help="draw these metrics only")
    args = parser.parse_args(argv)
    output = args.output or args.workdir[0] / "curves.png"
    names = [path.name for path in args.workdir]
    if len(set(names)) < len(names):  # then as far as their paths differ
        parts = zip(*(path.parts for path in args.workdir), strict=False)
        shared = len(list(itertools.takewhile(lambda alike: len(set(alike)) == 1, parts)))
        names = ["/".join(path.parts[shared:]) for path in args.workdir]
    try:
        drawn = sheet({name: read_log(path) for name, path in zip(names, args.workdir, strict=True)}, args.only)
        file = io.BytesIO()
        drawn.savefig(file, format=output.suffix.removeprefix(".") or "png")
        write_whole(output, [file.getbuffer()])
    except ModuleNotFoundError as error:
        print(f'plot: {error}; pip install "vdiffsr-jax[plots]"', file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"plot: {error}", file=sys.stderr)
        return 1
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
