"""The parity tool on some of the copied reference numbers, and its own refusals; CI compares all by its command."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests import parity

GOLDEN = Path(__file__).parent / "golden"
# What one compiled network tells, without chains and gradients.
FAST = r"schedule:.*|q_sample.*|scale_input.*|prior_sample.*|p_t.*|ddim_inverse.*|one_step"


def failures(lines: list[parity.Line]) -> list[str]:
    return [str(line) for line in lines if not line.ok]


def test_diffusion_meets_the_reference():
    lines = parity.compare(GOLDEN / "diffusion", FAST)
    assert len(lines) == 139
    assert not failures(lines)


def test_a_tiled_photo_meets_the_reference():
    lines = parity.compare(GOLDEN / "end_to_end", "tiled_uint8")
    assert len(lines) == 1
    assert not failures(lines)


def test_a_photo_folder_is_compared_as_far_as_it_goes(tmp_path: Path):
    config = json.loads((GOLDEN / "end_to_end" / "config.json").read_text())
    for network in ("unet", "first_stage"):
        config[network] = str((GOLDEN / "end_to_end" / config[network]).resolve())
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "check.json").write_text(json.dumps({"arrays": {"sinsr_uint8": {"tolerance": "exact"}}}))
    with np.load(GOLDEN / "end_to_end" / "io.npz") as io:
        np.savez(tmp_path / "io.npz", lr=io["lr"], tiled_lr=io["tiled_lr"], sinsr_uint8=io["sinsr_uint8"])
    (line,) = parity.compare(tmp_path)
    assert line.verdict == "NOT COMPUTED: io.npz lacks noise, chain_noise, tile_noise"


REFERENCE = {
    "scale": np.array([1.0, 3.0]),
    "scalar": np.array(2.0),
    "codes": np.array([1, 2, 3]),
}
CHECKS: dict = {
    "x": {},
    "scale": {"tolerance_over_std": 1e-5},
    "scalar": {"tolerance_over_std": 1e-5},
    "codes": {"tolerance": "exact"},
}


@pytest.fixture
def doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a kind made up here, whose outputs are exactly REFERENCE; tests tamper with the folder."""
    module = types.ModuleType("tests.parity_kinds.doubled")
    module.outputs = lambda folder, io: dict(REFERENCE)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(parity.INPUTS, "doubled", "x")
    write(tmp_path)
    return tmp_path


def write(folder: Path, io: dict | None = None, checks: dict | None = None) -> None:
    (folder / "config.json").write_text('{"kind": "doubled"}')
    (folder / "check.json").write_text(json.dumps({"arrays": CHECKS if checks is None else checks}))
    np.savez(folder / "io.npz", x=np.ones(2), **(REFERENCE if io is None else io))


def test_equal_numbers_pass(doubled: Path, capsys):
    assert parity.main([str(doubled)]) == 0
    printed = capsys.readouterr().out
    assert [line.split() for line in printed.splitlines()[1:4]] == [
        ["scale", "0.0e+00", "1.0e-05", "ok"],
        ["scalar", "0.0e+00", "1.0e-05", "ok"],
        ["codes", "0/3", "exact", "ok"],
    ]
    assert printed.endswith("total: 3 arrays compared, 0 failed\n")


@pytest.mark.parametrize(
    ("name", "reference", "verdict"),
    [
        ("scale", REFERENCE["scale"] + 1e-3, "OUT"),
        ("scale", REFERENCE["scale"] * np.nan, "OUT"),
        ("scale", np.ones(3), "OUT: shape (2,), reference (3,)"),
        ("scalar", np.array(2.001), "OUT"),
        ("codes", np.array([1, 2, 4]), "OUT"),
        ("unheard_of", np.ones(3), "NOT COMPUTED"),
    ],
)
def test_a_reference_we_do_not_meet_fails(doubled: Path, capsys, name: str, reference: np.ndarray, verdict: str):
    write(doubled, io=REFERENCE | {name: reference})
    assert parity.main([str(doubled)]) == 1
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith(f"  {name} "))
    assert line.endswith(f"  {verdict}")
    assert printed.splitlines()[-1].endswith("1 failed")


def test_a_reference_without_tolerance_fails(doubled: Path, capsys):
    write(doubled, checks={name: check for name, check in CHECKS.items() if name != "scale"})
    assert parity.main([str(doubled)]) == 1
    assert "NO TOLERANCE in check.json" in capsys.readouterr().out


def test_an_unknown_rule_fails(doubled: Path, capsys):
    write(doubled, checks=CHECKS | {"codes": {"tolerance": "roughly"}})
    assert parity.main([str(doubled)]) == 1
    assert "OUT: this tolerance is not understood" in capsys.readouterr().out


def test_nothing_to_compare_fails(doubled: Path, capsys):
    write(doubled, io={})
    assert parity.main([str(doubled)]) == 1
    assert parity.main([str(doubled), "--only", "no_such_array"]) == 1
    assert capsys.readouterr().out.count("total: 0 arrays compared") == 2


def test_only_some_arrays(doubled: Path, capsys):
    write(doubled, io=REFERENCE | {"scale": np.ones(2)})
    assert parity.main([str(doubled), "--only", "sca.*r|codes"]) == 0
    assert "total: 2 arrays compared" in capsys.readouterr().out


def test_a_damaged_archive_is_one_line(doubled: Path, capsys):
    (doubled / "io.npz").write_bytes((doubled / "io.npz").read_bytes()[:300])
    assert parity.main([str(doubled)]) == 2
    assert f"error: {doubled}: not a parity folder: BadZipFile" in capsys.readouterr().err


def test_a_good_folder_beside_an_unreadable_one_is_still_compared(doubled: Path, capsys):
    assert parity.main([str(doubled / "absent"), str(doubled)]) == 2
    assert "total: 3 arrays compared, 0 failed, 1 unreadable" in capsys.readouterr().out


def test_weights_that_do_not_fit_fail(tmp_path: Path, capsys):
    shutil.copytree(GOLDEN / "swin_unet", tmp_path / "swin_unet")
    names = json.loads((tmp_path / "swin_unet" / "weights.names.json").read_text())
    del names["tensors"]["out.2.bias"]
    (tmp_path / "swin_unet" / "weights.names.json").write_text(json.dumps(names))
    assert parity.main([str(tmp_path / "swin_unet")]) == 1
    assert "which would fill conv_out/bias" in capsys.readouterr().err


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
