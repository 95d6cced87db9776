"""Our networks and diffusion against reference numbers: `python -m tests.parity DIR [DIR ...]`.

A parity folder holds config.json (with `kind`), io.npz (inputs and reference outputs), check.json (tolerances) and
weights or their recipe. `tests/parity_kinds/KIND.py` computes every reference output; one line is printed per array.
Exit codes: 0 all in tolerance, 1 any out, not computed, or nothing compared, 2 a folder that cannot be read.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.weights.lazy_array import WeightsFileError

# Per kind, which arrays of io.npz are inputs (the whole name must match); every other one must be met.
INPUTS = {
    "vqgan_f4": r"img|odd_img|z_in",
    "vqvae_multiscale": r"img",
    "var_transformer": r"label|ar_label|x_in|tf_idx_\d+",
    "swin_unet": r"[a-z]_(x|t|lq)",
    "diffusion": r"x0|z_y|lq|noise|chain_noise|gt|loss_lq|loss_noise",
    "end_to_end": r"lr|tiled_lr|noise|chain_noise|tile_noise",
}
LEVELS = re.compile(r"at most (\d+) levels?, at most ([\d.]+) % of the values")


class FolderError(ValueError):
    """The folder is not a readable parity folder; the message names it."""


@dataclasses.dataclass(frozen=True)
class Line:
    """One reference array: how far we are, how far we may be. `excess` is deviation / tolerance, for sorting."""

    name: str
    deviation: str
    tolerance: str
    verdict: str
    excess: float = float("inf")

    @property
    def ok(self) -> bool:
        """In tolerance."""
        return self.verdict == "ok"

    def __str__(self) -> str:
        return f"  {self.name:<72} {self.deviation:>12} {self.tolerance:>18}  {self.verdict}"


def compare(folder: Path, only: str = ".*", **options: Any) -> list[Line]:
    """Compute every reference output of `folder` whose name matches `only` and compare.

    Args: options: `dtype`, which a folder of a single network computes in; float32 by default.
    Raises: FolderError if it is not a parity folder; ConversionError, ConfigError if its weights or config do not fit.
    """
    kind, io, tolerances = _read(folder)
    references = [name for name in io if not re.fullmatch(INPUTS[kind], name) and re.fullmatch(only, name)]
    wanted = {name: io[name] for name in io if name in references or re.fullmatch(INPUTS[kind], name)}
    lacking = _lacking(kind, io)
    outputs = importlib.import_module(f"tests.parity_kinds.{kind}").outputs(folder, wanted, **options)
    return [_line(name, outputs.get(name), io[name], tolerances.get(name, {}), lacking) for name in references]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description="Compare with reference numbers.")
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a folder of reference numbers")
    parser.add_argument("--only", metavar="REGEX", default=".*", help="compare only arrays whose whole name matches")
    args = parser.parse_args(argv)
    compared, failed, unreadable = 0, 0, 0
    for folder in args.folders:
        try:
            lines = compare(folder, args.only)
        except FolderError as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        except (ConfigError, ConversionError, WeightsFileError, OSError) as error:
            print(f"error: {folder}: {error}", file=sys.stderr)
            failed += 1
            continue
        print(f"{folder}: largest deviation over the reference's std, tolerance")
        print(*lines, sep="\n")
        bad = sum(not line.ok for line in lines)
        worst = max(lines, key=lambda line: line.excess, default=None)
        print(
            f"{folder}: {len(lines)} arrays, {bad} failed"
            + (f"; worst: {' '.join(str(worst).split())}" if worst else "")
        )
        compared, failed = compared + len(lines), failed + bad
    print(f"total: {compared} arrays compared, {failed} failed" + (f", {unreadable} unreadable" if unreadable else ""))
    if failed or (not compared and not unreadable):
        return 1
    return 2 if unreadable else 0


def _read(folder: Path) -> tuple[str, dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """(kind, io, {name: check.json's entry})."""
    if not folder.is_dir():
        raise FolderError(f"{folder}: no such folder")
    try:
        config = json.loads((folder / "config.json").read_text())
        checks = json.loads((folder / "check.json").read_text())["arrays"]
        with (folder / "io.npz").open("rb") as archive, np.load(archive) as file:
            io = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise FolderError(f"{folder}: not a parity folder: no {Path(error.filename).name}") from None
    except (KeyError, ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise FolderError(f"{folder}: not a parity folder: {type(error).__name__}: {error}") from None
    kind = config.get("kind")
    if kind not in INPUTS:
        raise FolderError(f"{folder}: config.json has kind {kind!r}; known: {', '.join(sorted(INPUTS))}")
    return kind, io, checks


def _lacking(kind: str, io: Mapping[str, np.ndarray]) -> str:
    """The inputs this kind may have and this folder has not."""
    return ", ".join(name for name in INPUTS[kind].split("|") if name.isidentifier() and name not in io)


def _line(
    name: str, ours: np.ndarray | None, reference: np.ndarray, check: Mapping[str, Any], lacking: str = ""
) -> Line:
    rule = check.get("tolerance_over_std", check.get("tolerance"))
    if ours is None:
        return Line(name, "-", str(rule), "NOT COMPUTED" + (f": io.npz lacks {lacking}" if lacking else ""))
    if rule is None:
        return Line(name, "-", "-", "NO TOLERANCE in check.json")
    if ours.shape != reference.shape:
        return Line(name, "-", str(rule), f"OUT: shape {ours.shape}, reference {reference.shape}")
    if isinstance(rule, str):
        return _discrete(name, ours, reference, rule)
    return _continuous(name, np.asarray(ours, np.float64), np.asarray(reference, np.float64), float(rule))


def _continuous(name: str, ours: np.ndarray, reference: np.ndarray, tolerance: float) -> Line:
    """Over the reference's std; over the value itself where it has none (a scalar or constant array)."""
    largest = np.abs(ours - reference).max()
    scale = reference.std() if np.ptp(reference) else np.abs(reference).max()
    deviation = 0.0 if largest == 0 else (largest / scale if scale else np.inf)
    excess = 0.0 if deviation == 0 else (deviation / tolerance if tolerance else np.inf)
    verdict = "ok" if deviation <= tolerance else "OUT"
    return Line(name, f"{deviation:.1e}", f"{tolerance:.1e}", verdict, float("inf") if np.isnan(excess) else excess)


def _discrete(name: str, ours: np.ndarray, reference: np.ndarray, rule: str) -> Line:
    """Equal ("exact"), or pictures that may differ by some levels in some values."""
    distance = np.abs(ours.astype(np.int64) - reference.astype(np.int64))
    differ = f"{np.count_nonzero(distance)}/{distance.size}"
    if rule == "exact":
        same = not distance.any()
        return Line(name, differ, "exact", "ok" if same else "OUT", 0.0 if same else float("inf"))
    match = LEVELS.fullmatch(rule)
    if match is None:
        return Line(name, differ, rule, "OUT: this tolerance is not understood")
    levels, percent = int(match[1]), float(match[2])
    share = 100 * np.count_nonzero(distance) / distance.size
    ok = distance.max() <= levels and share <= percent
    return Line(
        name, f"{distance.max()} in {share:.3f} %", f"{levels} in {percent} %", "ok" if ok else "OUT", share / percent
    )


if __name__ == "__main__":
    sys.exit(main())
