"""The parity tool on the copied reference numbers, and its own refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import parity

GOLDEN = Path(__file__).parent / "golden"
# Seconds rather than minutes: everything that needs one compiled network, not its gradients or long chains.
FAST = r"schedule:.*|q_sample.*|scale_input.*|prior_sample.*|p_t.*|ddim_inverse.*|one_step|deterministic_15to4.*"


def failures(lines: list[parity.Line]) -> list[str]:
    return [str(line) for line in lines if not line.ok]


def test_diffusion_meets_the_reference():
    lines = parity.compare(GOLDEN / "diffusion", FAST)
    assert len(lines) == 143
    assert not failures(lines)


@pytest.mark.slow
def test_chains_losses_and_gradients_meet_the_reference():
    lines = parity.compare(GOLDEN / "diffusion")
    assert len(lines) == 221
    assert not failures(lines)


def test_a_tiled_photo_meets_the_reference():
    lines = parity.compare(GOLDEN / "end_to_end", "tiled_.*")
    assert {"tiled_uint8", "tiled_indices_tile1", "tiled_z0_tile0"} <= {line.name for line in lines}
    assert not failures(lines)


@pytest.mark.slow
def test_every_photo_meets_the_reference():
    lines = parity.compare(GOLDEN / "end_to_end")
    assert len(lines) == 26
    assert not failures(lines)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The diffusion folder, cut down to schedules, beside the networks it names; tests tamper with it."""
    for name in ("diffusion", "swin_unet", "vqgan_f4"):
        (tmp_path / name).mkdir()
        for file in (GOLDEN / name).iterdir():
            shutil.copy(file, tmp_path / name)
    keep = r"schedule:sinsr:.*|" + parity.INPUTS["diffusion"]
    rewrite(tmp_path / "diffusion", lambda io: {k: v for k, v in io.items() if parity.re.fullmatch(keep, k)})
    return tmp_path / "diffusion"


def rewrite(folder: Path, change) -> None:
    with np.load(folder / "io.npz") as file:
        io = dict(file)
    np.savez(folder / "io.npz", **change(io))


def test_untouched_numbers_pass(copied: Path, capsys):
    assert parity.main([str(copied)]) == 0
    printed = capsys.readouterr().out
    assert "schedule:sinsr:etas " in printed
    assert "total: 14 arrays compared, 0 failed" in printed


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("schedule:sinsr:etas", lambda a: a + 1e-3, "OUT"),
        ("schedule:sinsr:etas", lambda a: a * np.nan, "OUT"),
        ("schedule:sinsr:etas", lambda a: a[:-1], "OUT: shape (15,), reference (14,)"),
        ("schedule:sinsr:timestep_map", lambda a: a[::-1], "OUT"),
    ],
)
def test_a_changed_reference_is_out(copied: Path, capsys, name: str, value, verdict: str):
    rewrite(copied, lambda io: io | {name: value(io[name])})
    assert parity.main([str(copied)]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {name} "))
    assert line.endswith(f"  {verdict}")


def test_an_array_nobody_computes_fails(copied: Path, capsys):
    rewrite(copied, lambda io: io | {"schedule:sinsr:unheard_of": np.ones(3)})
    assert parity.main([str(copied)]) == 1
    assert "NOT COMPUTED" in capsys.readouterr().out


def test_a_reference_without_tolerance_fails(copied: Path, capsys):
    checks = json.loads((copied / "check.json").read_text())
    del checks["arrays"]["schedule:sinsr:etas"]["tolerance_over_std"]
    (copied / "check.json").write_text(json.dumps(checks))
    assert parity.main([str(copied)]) == 1
    assert "NO TOLERANCE" in capsys.readouterr().out


def test_nothing_to_compare_fails(copied: Path, capsys):
    rewrite(copied, lambda io: {k: v for k, v in io.items() if not k.startswith("schedule:")})
    assert parity.main([str(copied)]) == 1
    assert "total: 0 arrays compared" in capsys.readouterr().out


def test_weights_that_do_not_fit_fail(copied: Path, capsys):
    names = json.loads((copied.parent / "swin_unet" / "weights.names.json").read_text())
    del names["tensors"]["out.2.bias"]
    (copied.parent / "swin_unet" / "weights.names.json").write_text(json.dumps(names))
    assert parity.main([str(copied)]) == 1
    assert "missing" in capsys.readouterr().err


def test_unreadable_folders_are_one_line_each(tmp_path: Path, capsys):
    (tmp_path / "kind").mkdir()
    for name, content in (("config.json", '{"kind": "resnet"}'), ("check.json", '{"arrays": {}}')):
        (tmp_path / "kind" / name).write_text(content)
    np.savez(tmp_path / "kind" / "io.npz", x=np.ones(1))
    folders = [tmp_path / "absent", GOLDEN / "published_manifests", tmp_path / "kind"]
    assert parity.main([str(f) for f in folders]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"error: {folders[0]}: no such folder",
        f"error: {folders[1]}: not a parity folder: no config.json",
        f"error: {folders[2]}: config.json has kind 'resnet'; known: diffusion, end_to_end, swin_unet, "
        "var_transformer, vqgan_f4, vqvae_multiscale",
    ]


def test_a_damaged_archive_is_one_line(copied: Path, capsys):
    (copied / "io.npz").write_bytes((copied / "io.npz").read_bytes()[:1000])
    assert parity.main([str(copied)]) == 2
    assert f"error: {copied}: not a parity folder: BadZipFile" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (np.array([100, 101, 102] + [0] * 997, np.uint8), "ok"),
        (np.array([101, 102, 102] + [0] * 997, np.uint8), "ok"),  # two of a thousand, one level each
        (np.array([101, 102, 103] + [0] * 997, np.uint8), "OUT"),
        (np.array([102, 101, 102] + [0] * 997, np.uint8), "OUT"),
    ],
)
def test_pictures_may_differ_by_one_level_in_few_values(ours: np.ndarray, verdict: str):
    reference = np.array([100, 101, 102] + [0] * 997, np.uint8)
    rule = {"tolerance": "at most 1 level, at most 0.2 % of the values"}
    assert parity._line("picture", ours, reference, rule).verdict == verdict


@pytest.mark.parametrize(
    ("ours", "reference", "ok"),
    [
        (1.00001, 1.0, True),  # a scalar: relative to its value
        (1.0001, 1.0, False),
        (0.0, 0.0, True),
        (1e-9, 0.0, False),  # zero has no scale: only zero meets it
        (np.array([1.0, 3.00001]), np.array([1.0, 3.0]), True),  # std 1
        (np.array([1.0, 3.0001]), np.array([1.0, 3.0]), False),
        (np.array([1.0, np.nan]), np.array([1.0, 3.0]), False),
    ],
)
def test_deviation_is_measured_in_the_references_own_scale(ours, reference, ok: bool):
    line = parity._line("x", np.asarray(ours), np.asarray(reference), {"tolerance_over_std": 2e-5})
    assert line.ok is ok


def test_codes_must_be_equal():
    line = parity._line("idx", np.array([1, 2, 4]), np.array([1, 2, 3]), {"tolerance": "exact"})
    assert (line.verdict, line.deviation) == ("OUT", "1/3")
