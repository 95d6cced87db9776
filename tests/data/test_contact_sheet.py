from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import coordinates, noise
from vdiffsr_jax.data import contact_sheet


def test_a_sheet_holds_lr_enlarged_beside_hr():
    hr, lr = coordinates(3, 8, 8), noise(0, 2, 2)
    paper = np.asarray(contact_sheet.sheet([(hr, lr), (hr, lr), (hr, lr)], columns=2))
    np.testing.assert_array_equal(paper[18:26, 12:20], hr)
    np.testing.assert_array_equal(paper[18:26, :8], lr.repeat(4, axis=0).repeat(4, axis=1))
    assert (paper[30 + 18 :, 24:] == 255).all()  # the fourth pair is missing


def test_the_command_writes_a_png_from_a_folder_and_from_a_config(folder: Path, tmp_path: Path, capsys):
    output = tmp_path / "sheet.png"
    flags = ["--output", str(output), "--count", "3", "--columns", "3"]
    assert contact_sheet.main(["--input", str(folder), "--crop-size", "32", "--degradation", "mild", *flags]) == 0
    assert "3 pairs in" in capsys.readouterr().out
    first = np.asarray(Image.open(output))
    config = tmp_path / "config.py"
    data = {"sources": [str(folder)], "crop_size": 32, "degradation": "mild"}
    config.write_text(f"def get_config():\n    return {{'task': 'vqgan', 'data': {data!r}}}\n")
    assert contact_sheet.main(["--config", str(config), *flags]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(output)), first)

    own = Path(__file__).parents[2] / "configs" / "box_first.py"  # it imports its neighbours
    assert contact_sheet.main(["--config", str(own), "--input", str(folder), "--crop-size", "32", *flags]) == 0


def test_a_sheet_that_is_broken_off_leaves_the_file_before(folder: Path, tmp_path: Path, monkeypatch):
    def half(image, file, *rest):
        with contextlib.nullcontext(file) if hasattr(file, "write") else Path(file).open("wb") as place:
            place.write(b"half")
        raise KeyboardInterrupt

    (output := tmp_path / "sheet.png").write_bytes(b"before")
    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(KeyboardInterrupt):
        contact_sheet.main(
            ["--input", str(folder), "--crop-size", "32", "--degradation", "bicubic", "--output", str(output)]
        )
    assert output.read_bytes() == b"before"


def test_refusals(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "c.py").write_text("x = 1\n")
    output = ["--output", str(tmp_path / "c.py" / "sheet.png"), "--crop-size", "32"]
    for arguments, message in (
        (output, "give --input PHOTOS or --config"),
        (["--config", str(tmp_path / "c.py"), *output], "has no function get_config"),
        (["--config", str(tmp_path / "gone.py"), *output], "gone.py: no such file"),
        (["--input", str(folder), *output], "cannot be written"),
        (["--input", str(folder), "--split", "valid", *output], "data.valid_sources is empty"),
    ):
        assert contact_sheet.main(arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--count=0", "--columns=-1", "--first=-1", "--seed=-1", "--seed=4294967296"])
def test_numbers_out_of_their_range_are_wrong_usage(folder: Path, tmp_path: Path, capsys, flag):
    with pytest.raises(SystemExit, match="2"):
        contact_sheet.main(["--input", str(folder), "--crop-size", "32", "--output", str(tmp_path / "a.png"), flag])
    assert f"argument {flag.split('=')[0]}: " in (said := capsys.readouterr().err.splitlines()[-1])
    assert " must " in said
