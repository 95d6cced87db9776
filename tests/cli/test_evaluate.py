"""evaluate.py as a person runs it: table, scores and sheet; every refusal in one line with its exit code."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from tests.pictures import dead_leaves
from vdiffsr_jax import Upscaler
from vdiffsr_jax.cli.evaluate import main
from vdiffsr_jax.evaluation.protocol import Protocol
from vdiffsr_jax.evaluation.scores import Scorer, choose
from vdiffsr_jax.metrics import catalog, niqe
from vdiffsr_jax.metrics.catalog import MetricError
from vdiffsr_jax.metrics.psnr_ssim import luma, psnr, ssim
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.sampling import tiling
from vdiffsr_jax.sampling.errors import SamplingError
from vdiffsr_jax.sampling.in_flight import Failure
from vdiffsr_jax.weights.checkpoint import CheckpointError


class Stub:
    """Answers like the Upscaler, without one to compile: pixels repeated, the number of steps added."""

    diverged = False

    def grid(self, height, width, settings):
        return tiling.Grid(height, width, 16, 16)

    def outcomes(self, photos, settings, progress):
        for photo in photos:
            progress(1)
            if self.diverged:
                yield Failure(SamplingError("the model's numbers are not finite"), 1)
            else:
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


def test_what_has_no_result_loses_its_own_scores_only(plain_model, photos, tmp_path, capsys, monkeypatch):
    """A picture that a model makes nothing of, and a model that cannot be read."""

    def load(directory, dtype):
        if directory.name == "gone":
            raise CheckpointError("gone is damaged")
        made = Stub()
        made.diverged = directory.name == "diverged"
        return made

    for name in ("gone", "diverged"):
        shutil.copytree(plain_model, tmp_path / name)
    monkeypatch.setattr(Upscaler, "load", load)
    code = main(["--photos", str(photos), "--ckpt", f"one={plain_model}", "--ckpt", str(tmp_path / "gone"),
                 "--ckpt", str(tmp_path / "diverged"), "--metrics", "psnr", "--crop", "64",
                 "--output", str(tmp_path / "out")])  # fmt: skip
    assert code == 1
    said = capsys.readouterr().err
    assert "gone: gone is damaged; left out" in said
    assert "a.png by diverged: the model's numbers are not finite; left out" in said
    scores = rows(tmp_path / "out")
    assert {method for method, _ in scores} == {"bicubic", "one", "diverged"}
    assert float(scores["one", "a.png"]["PSNR-Y"]) > 0
    assert scores["diverged", "a.png"]["PSNR-Y"] == "nan"


def test_rows_are_kept_when_a_later_one_is_interrupted(plain_model, photos, tmp_path, monkeypatch):
    loaded = []

    def load(directory, dtype):
        loaded.append(directory)
        if len(loaded) == 2:
            raise KeyboardInterrupt
        return Stub()

    monkeypatch.setattr(Upscaler, "load", load)
    code = main(["--photos", str(photos), "--ckpt", f"one={plain_model}", "--ckpt", f"two={plain_model}",
                 "--metrics", "psnr", "--crop", "64", "--output", str(tmp_path / "out")])  # fmt: skip
    assert code == 130
    assert {method for method, _ in rows(tmp_path / "out")} == {"bicubic", "one"}


def test_names_that_are_no_text_are_shown_escaped(photos, tmp_path):
    folder = os.fsencode(shutil.copytree(photos, tmp_path / "photos"))
    os.rename(folder + b"/a.png", folder + b"/caf\xe9.png")
    assert main(["--photos", str(tmp_path / "photos"), "--metrics", "psnr", "--crop", "64", "--ckpt", "x=gone",
                 "--output", str(tmp_path / "out")]) == 2  # fmt: skip
    assert main(["--pairs", str(tmp_path / "photos"), f"same={tmp_path / 'photos'}", "--metrics", "psnr",
                 "--output", str(tmp_path / "out")]) == 0  # fmt: skip
    assert ("same", "caf\\udce9") in rows(tmp_path / "out")


@pytest.mark.parametrize("flags", [["--photos", ""], ["--hr", "", "--lr", "x"], ["--pairs", "", "a=x"]])
def test_an_empty_name_is_told(flags, tmp_path, capsys):
    assert main([*flags, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_scores_are_those_of_the_result(evaluated, perceptual, photos):
    scores = rows(evaluated[0])
    assert [method for method, image in scores if image == "mean"] == ["bicubic", "one", "four"]
    case = Protocol(crop=64).case("a.png", read(photos / "a.png").color)
    inside = (slice(4, -4),) * 2
    result = stub(case.lr, 1)
    for method, image in (("bicubic", case.bicubic), ("one", result)):
        want = psnr(luma(image)[inside], luma(case.hr)[inside])
        assert float(scores[method, "a.png"]["PSNR-Y"]) == pytest.approx(want, abs=1e-3)
    distance = catalog.load("lpips_alex", RULES["default"], perceptual).score
    assert distance(case.hr, case.hr) < 1e-12 < distance(result, case.hr)
    assert float(scores["one", "a.png"]["LPIPS (AlexNet)"]) == pytest.approx(distance(result, case.hr), rel=1e-4)
    assert scores["one", "a.png"]["PSNR-Y"] != scores["four", "a.png"]["PSNR-Y"]
    assert {row["LPIPS (AlexNet) weights"] for row in scores.values()} == {catalog.named_files(perceptual)}


def test_the_table_has_protocol_steps_and_ratios(evaluated):
    text = (evaluated[0] / "table.md").read_text()
    for part in ("2 photos", "64 x 64", "sigma 1.5", "JPEG quality 60", "seed 0", "4 pixels cropped", "a.png, b.jpg"):
        assert part in text
    table = {cells[0]: cells for line in text.splitlines() if line.startswith("|")
             for cells in [[cell.strip() for cell in line.strip("|").split("|")]]}  # fmt: skip
    assert table["method"] == ["method", "steps", "s/picture", "PSNR-Y", "SSIM-Y", "LPIPS (AlexNet)"]
    assert table["bicubic"][1:3] == ["", ""]
    assert table["bicubic"][5].endswith("(1.000)")
    assert table["four"][1] == "4"
    means = rows(evaluated[0])
    ratio = float(means["one", "mean"]["LPIPS (AlexNet)"]) / float(means["bicubic", "mean"]["LPIPS (AlexNet)"])
    assert float(table["one"][5].split("(")[1].rstrip(")")) == pytest.approx(ratio, abs=1e-3)


def test_only_lpips_is_called_so(tmp_path):
    columns = {"vgg16": "LPIPS (VGG16)", "alexnet": "LPIPS (AlexNet)", "efficientnet_lite0": "feature distance"}
    for backbone, column in columns.items():
        content = {"format": 1, "kind": "perceptual", "config": {"backbone": backbone}, "sources": []}
        (tmp_path / "config.json").write_text(json.dumps(content))
        assert catalog.METRICS[catalog.network_key(tmp_path)].column == column


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
        (["--ckpt", "x={plain_model}", "--fidelity", "y:1"], "--fidelity y:1: write NAME:0..1, NAME one of x"),
        (["--ckpt", "x={plain_model}", "--fidelity", "x:1"], "--fidelity x: fidelity=1: this model is one student"),
        (["--ckpt", "x={perceptual}"], "perceptual network, not a whole model"),
        (["--ckpt", "x={plain_model}", "--perceptual", "{plain_model}"], "not a metric's"),
        (
            ["--ckpt", "x={plain_model}", "--perceptual", "{perceptual}", "--perceptual", "{perceptual}"],
            "share a column",
        ),
        (["--ckpt", "x={plain_model}", "--degradation", "paired"], "belong together"),
        (["--ckpt", "x={plain_model}", "--niqe", "none.npz"], "none.npz cannot be read"),
        (["--ckpt", "x={plain_model}", "--sheet", "c.png"], "no such picture; there are a.png, b.jpg"),
        (["--ckpt", "x={plain_model}", "--crop", "20"], "at least 64"),
        (["--metrics", "psnr,lpips"], "unknown metric 'lpips'; known: psnr, ssim"),
        (["--metrics", "dists"], "dists has no weights here; get them: "),
        (["--hr", "{photos}"], "one of --photos PHOTOS"),
    ],
)
def test_wrong_usage_is_refused_in_one_line(flags, why, plain_model, perceptual, photos, tmp_path, capsys):
    flags = [flag.format(plain_model=plain_model, perceptual=perceptual, photos=photos) for flag in flags]
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
    assert "no picture could be used" in error


def test_niqe_is_a_column_where_parameters_are_given(tmp_path):
    pristine = niqe.fit(dead_leaves(seed, 384, 576, discs=4000) for seed in range(3))
    pristine.save(tmp_path / "niqe.npz")
    found = catalog.find(tmp_path)
    keys, missing = choose(None, found)
    assert keys == ["psnr", "ssim", "niqe"]
    assert missing == ["lpips_alex", "lpips_vgg", "dists", "feature_distance", "musiq", "musiq_spaq", "musiq_ava",
                       "musiq_paq2piq", "clip_iqa"]  # fmt: skip
    scorer = Scorer.load(keys, RULES["default"], found)
    hr = dead_leaves(7, 200, 208, discs=2000)
    assert scorer.columns == ("PSNR-Y", "SSIM-Y", "NIQE")
    assert scorer(hr, hr)["NIQE"] == pytest.approx(niqe.niqe(hr[4:-4, 4:-4], pristine))
    assert np.isnan(scorer(np.full_like(hr, 9), hr)["NIQE"])
    assert np.isnan(scorer(hr[:100, :100], hr[:100, :100])["NIQE"])
    digest = hashlib.sha256((tmp_path / "niqe.npz").read_bytes()).hexdigest()
    assert scorer.describe() == f"NIQE: weights of niqe.npz (SHA-256 {digest})."
    (tmp_path / "again.npz").write_bytes((tmp_path / "niqe.npz").read_bytes())
    with pytest.raises(catalog.MetricError, match=r"again.npz and .*niqe.npz are both weights of niqe"):
        catalog.find(tmp_path)


def test_list_metrics_says_what_is_there_and_how_to_get_the_rest(perceptual, capsys):
    assert main(["--list-metrics", "--weights", str(perceptual.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"lpips_alex        LPIPS (AlexNet): ready, {perceptual}" in "\n".join(lines)
    (missing,) = [i for i, line in enumerate(lines) if line.startswith("dists ")]
    assert "no weights in" in lines[missing]
    assert "--backbone dists --heads" in lines[missing + 1]


def picture(path, seed, h=80, w=96, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(dead_leaves(seed, h, w)).convert(mode).save(path)


def test_pairs_compares_folders_and_names_what_it_leaves_out(tmp_path, capsys):
    for i, name in enumerate(("a", "b", "c", "d", "e", "f")):
        picture(tmp_path / "HR" / f"{name}.png", i)
    for name, seed, size, mode in (("a", 0, {}, "RGB"), ("b", 9, {}, "RGB"), ("c", 2, {"w": 92}, "RGB"),
                                   ("d", 3, {}, "L"), ("g", 6, {}, "RGB")):  # fmt: skip
        picture(tmp_path / "SR" / f"{name}.png", seed, mode=mode, **size)
    deep = dead_leaves(4, 80, 96).astype(np.uint16) * 257
    (tmp_path / "SR" / "e.png").write_bytes(imagecodecs.png_encode(deep))
    out = tmp_path / "out"
    code = main(["--pairs", str(tmp_path / "HR"), f"ours={tmp_path / 'SR'}", "--scores", "stablesr", "--output",
                 str(out), "--weights", str(tmp_path)])  # fmt: skip
    said = capsys.readouterr()
    assert code == 1
    for why in ("c: is 92 x 80 in ours and 96 x 80 in HR", "d.png is grey", "e.png has 16 bits",
                "f: is not in ours", "g: is not in HR"):  # fmt: skip
        assert why in said.err
    assert "2 pictures, 5 left out (1 other size, 1 grey, 1 16-bit, 2 missing)" in said.out
    scores = rows(out)
    assert set(scores) == {("ours", "a"), ("ours", "b"), ("ours", "mean")}
    assert (scores["ours", "a"]["PSNR-Y"], scores["ours", "a"]["SSIM-Y"]) == ("inf", "1")
    hr, sr = dead_leaves(1, 80, 96), dead_leaves(9, 80, 96)
    assert float(scores["ours", "b"]["PSNR-Y"]) == pytest.approx(psnr(luma(hr), luma(sr)), abs=1e-3)
    want = ssim(luma(hr, rounded=True), luma(sr, rounded=True), clipped=True)
    assert float(scores["ours", "b"]["SSIM-Y"]) == pytest.approx(want, abs=1e-5)
    assert "Scores `stablesr`" in (out / "table.md").read_text()
    assert "bicubic" not in (out / "table.md").read_text()
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 2 * 96 + 4


def test_models_on_given_pairs_are_whole_pictures_beside_bicubic(plain_model, tmp_path):
    picture(tmp_path / "HR" / "a.png", 0)
    lr = np.asarray(Image.fromarray(dead_leaves(0, 80, 96)).resize((24, 20), Image.Resampling.BOX))
    (tmp_path / "LR").mkdir()
    Image.fromarray(lr).save(tmp_path / "LR" / "a.png")
    out = tmp_path / "out"
    assert main(["--hr", str(tmp_path / "HR"), "--lr", str(tmp_path / "LR"), "--ckpt", f"x={plain_model}",
                 "--scores", "ntire", "--metrics", "psnr", "--output", str(out)]) == 0  # fmt: skip
    enlarged = np.asarray(Image.fromarray(lr).resize((96, 80), Image.Resampling.BICUBIC))
    inside = (slice(4, -4),) * 2
    hr = dead_leaves(0, 80, 96)
    for method, image in (("bicubic", enlarged), ("x", stub(lr, 1))):
        want = psnr(luma(image)[inside], luma(hr)[inside])
        assert float(rows(out)[method, "a"]["PSNR-Y"]) == pytest.approx(want, abs=1e-3)
    assert main(["--hr", str(tmp_path / "HR"), "--lr", str(tmp_path / "HR"), "--output", str(out)]) == 1


@pytest.mark.parametrize(
    ("error", "code", "trace"),
    [(CheckpointError("runs/a is damaged"), 2, False), (MetricError("no such metric"), 2, False),
     (ValueError("our own fault"), 1, True), (RuntimeError("our own fault"), 1, True)],
)  # fmt: skip
def test_refusals_are_one_line_and_faults_of_ours_keep_their_trace(monkeypatch, capsys, error, code, trace):
    def fail(*args):
        raise error

    monkeypatch.setattr("vdiffsr_jax.cli.evaluate.run", fail)
    assert main(["--pairs", "hr", "a=sr", "--output", "out"]) == code
    err = capsys.readouterr().err
    assert ("Traceback" in err) == trace
    assert err.splitlines()[-1].endswith(str(error))
    assert trace or len(err.splitlines()) == 1
