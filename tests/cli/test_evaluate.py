"""evaluate.py as a person runs it: table, scores and sheet; every refusal in one line with its exit code."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.pictures import dead_leaves
from vdiffsr_jax import Upscaler
from vdiffsr_jax.cli.evaluate import main
from vdiffsr_jax.evaluation.protocol import Protocol
from vdiffsr_jax.evaluation.scores import Distance, Scorer
from vdiffsr_jax.metrics import niqe
from vdiffsr_jax.metrics.psnr_ssim import luma, psnr
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling import tiling


class Stub:
    """Answers like the Upscaler, without one to compile: pixels repeated, the number of steps added."""

    def grid(self, height, width, settings):
        return tiling.Grid(height, width, 16, 16)

    def stream(self, photos, settings, progress):
        for photo in photos:
            progress(1)
            yield stub(photo, settings.steps)


def stub(lr, steps):
    return lr.clip(0, 250).repeat(4, 0).repeat(4, 1) + np.uint8(steps)


@pytest.fixture(scope="module", autouse=True)
def _stubbed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Upscaler, "load", lambda directory, dtype: Stub())
        yield


@pytest.fixture(scope="module")
def evaluated(plain_model, perceptual, photos, tmp_path_factory):
    """(output folder, exit code) of one run with two rows of the same model, and a broken photo."""
    folder = tmp_path_factory.mktemp("with_broken") / "photos"
    shutil.copytree(photos, folder)
    (folder / "broken.png").write_bytes(b"no picture")
    output = folder.parent / "out"
    code = main(["--photos", str(folder), "--ckpt", f"one={plain_model}", "--ckpt", f"four={plain_model}",
                 "--steps", "four:4", "--perceptual", str(perceptual), "--crop", "64", "--sheet", "b.jpg",
                 "--sheet-size", "48", "--output", str(output)])  # fmt: skip
    return output, code


def rows(output):
    with (output / "scores.csv").open(newline="") as file:
        return {(row["method"], row["image"]): row for row in csv.DictReader(file)}


def test_a_broken_photo_is_left_out_and_the_exit_code_says_so(evaluated):
    output, code = evaluated
    assert code == 1
    assert {image for _, image in rows(output)} == {"a.png", "b.jpg", "mean"}


def test_scores_are_those_of_the_result(evaluated, perceptual, photos):
    scores = rows(evaluated[0])
    assert [method for method, image in scores if image == "mean"] == ["bicubic", "one", "four"]
    case = Protocol(crop=64).case("a.png", read(photos / "a.png").color)
    inside = (slice(4, -4),) * 2
    result = stub(case.lr, 1)
    for method, image in (("bicubic", case.bicubic), ("one", result)):
        want = psnr(luma(image)[inside], luma(case.hr)[inside])
        assert float(scores[method, "a.png"]["PSNR-Y"]) == pytest.approx(want, abs=1e-3)
    distance = Distance.load(perceptual)
    assert distance.between(case.hr, case.hr) < 1e-12 < distance.between(result, case.hr)
    assert float(scores["one", "a.png"]["LPIPS (AlexNet)"]) == pytest.approx(
        distance.between(result, case.hr), rel=1e-4
    )
    assert scores["one", "a.png"]["PSNR-Y"] != scores["four", "a.png"]["PSNR-Y"]


def test_the_table_has_protocol_steps_and_ratios(evaluated):
    text = (evaluated[0] / "table.md").read_text()
    for part in ("2 photos", "64 x 64", "sigma 1.5", "JPEG quality 60", "seed 0", "4 pixels cropped", "a.png, b.jpg"):
        assert part in text
    table = {cells[0]: cells for line in text.splitlines() if line.startswith("|")
             for cells in [[cell.strip() for cell in line.strip("|").split("|")]]}  # fmt: skip
    assert table["method"] == ["method", "steps", "PSNR-Y", "SSIM-Y", "LPIPS (AlexNet)"]
    assert table["bicubic"][1] == ""
    assert table["bicubic"][4].endswith("(1.000)")
    assert table["four"][1] == "4"
    means = rows(evaluated[0])
    ratio = float(means["one", "mean"]["LPIPS (AlexNet)"]) / float(means["bicubic", "mean"]["LPIPS (AlexNet)"])
    assert float(table["one"][4].split("(")[1].rstrip(")")) == pytest.approx(ratio, abs=1e-3)


def test_only_lpips_is_called_so(tmp_path):
    columns = {"vgg16": "LPIPS (VGG16)", "alexnet": "LPIPS (AlexNet)", "efficientnet_lite0": "feature distance"}
    for backbone, column in columns.items():
        content = {"format": 1, "kind": "perceptual", "config": {"backbone": backbone}, "sources": []}
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert Distance.column_of(tmp_path) == column


def test_the_sheet_shows_the_chosen_photo_in_every_column(evaluated, photos):
    with Image.open(evaluated[0] / "sheet.png") as image:
        sheet = np.asarray(image)
    assert sheet.shape == (18 + 48, 5 * 48 + 4 * 4, 3)
    case = Protocol(crop=64).case("b.jpg", read(photos / "b.jpg").color)
    cells = [sheet[18:, 52 * i : 52 * i + 48] for i in range(5)]
    np.testing.assert_array_equal(cells[0], case.lr[2:14, 2:14].repeat(4, 0).repeat(4, 1))
    np.testing.assert_array_equal(cells[1], case.bicubic[8:56, 8:56])
    np.testing.assert_array_equal(cells[4], case.hr[8:56, 8:56])
    assert (sheet[:18, :48] < 128).any()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--ckpt", "x=nowhere"], "nowhere: no such directory"),
        (["--ckpt", "bicubic={plain_model}"], "row 'bicubic' already"),
        (["--ckpt", "x={plain_model}", "--ckpt", "x={plain_model}"], "row 'x' already"),
        (["--ckpt", "x={plain_model}", "--steps", "y:4"], "NAME one of x"),
        (["--ckpt", "x={plain_model}", "--steps", "x:3"], "this model takes 1, 4"),
        (["--ckpt", "x={perceptual}"], "perceptual network, not a whole model"),
        (["--ckpt", "x={plain_model}", "--perceptual", "{plain_model}"], "not a perceptual one"),
        (
            ["--ckpt", "x={plain_model}", "--perceptual", "{perceptual}", "--perceptual", "{perceptual}"],
            "share a column",
        ),
        (["--ckpt", "x={plain_model}", "--degradation", "paired"], "belong together"),
        (["--ckpt", "x={plain_model}", "--niqe", "none.npz"], "none.npz cannot be read"),
        (["--ckpt", "x={plain_model}", "--sheet", "c.png"], "no such photo; there are a.png, b.jpg"),
        (["--ckpt", "x={plain_model}", "--crop", "20"], "at least 64"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(flags, why, plain_model, perceptual, photos, tmp_path, capsys):
    flags = [flag.format(plain_model=plain_model, perceptual=perceptual) for flag in flags]
    assert main(["--photos", str(photos), "--output", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_usable_photo_is_exit_code_1(plain_model, tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"")
    assert main(["--photos", str(tmp_path), "--ckpt", f"x={plain_model}", "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "a.png: is empty; left out" in error
    assert "no photo could be used" in error


def test_niqe_is_a_column_where_parameters_are_given():
    pristine = niqe.fit(dead_leaves(seed, 384, 576, discs=4000) for seed in range(3))
    scorer = Scorer(4, pristine)
    hr = dead_leaves(7, 200, 208, discs=2000)
    assert scorer.columns == ("PSNR-Y", "SSIM-Y", "NIQE")
    assert scorer(hr, hr)["NIQE"] == pytest.approx(niqe.niqe(luma(hr)[4:-4, 4:-4], pristine))
    assert np.isnan(scorer(np.full_like(hr, 9), hr)["NIQE"])
    with pytest.raises(niqe.NiqeError, match="two blocks"):
        scorer.check(hr[:100, :100])
