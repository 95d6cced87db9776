"""The self-test agrees with scores that another library computed, and finds those that are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.pictures import dead_leaves
from vdiffsr_jax.evaluation.selftest import TOLERANCES, main
from vdiffsr_jax.metrics.catalog import METRICS
from vdiffsr_jax.metrics.psnr_ssim import luma


@pytest.fixture
def folder(tmp_path):
    """Two published pictures of which one is here; PSNR by hand, MANIQA that no one can test."""
    for part in ("HR", "theirs"):
        (tmp_path / part).mkdir()
    hr = dead_leaves(0, 80, 96)
    result = np.clip(hr.astype(int) + np.random.default_rng(0).integers(-9, 10, hr.shape), 0, 255).astype(np.uint8)
    Image.fromarray(hr).save(tmp_path / "HR" / "a.png")
    Image.fromarray(result).save(tmp_path / "theirs" / "a.png")
    error = np.mean((luma(hr) - luma(result)) ** 2)
    return tmp_path, 10 * np.log10(255**2 / error)


def publish(folder, psnr, more=""):
    text = f"file,PSNR,LPIPS,MUSIQ,MANIQA\na.png,{psnr:.6f},0.1,70,0.6\nb.png,20,0.1,70,0.6\n"
    (folder / "theirs.csv").write_text(more or text)


def test_right_scores_agree_and_wrong_ones_differ(folder, capsys):
    folder, psnr = folder
    publish(folder, psnr)
    assert main([str(folder), "--weights", str(folder / "none")]) == 0
    said = capsys.readouterr().out
    assert "theirs PSNR: agrees" in said
    assert "(a) of 1 pictures" in said
    assert "theirs LPIPS: not tested, no weights in" in said
    assert "theirs MANIQA: not tested, this tool has no such metric" in said
    assert "theirs MUSIQ: not tested, no weights in" in said
    publish(folder, psnr + 2e-3)
    assert main([str(folder), "--weights", str(folder / "none")]) == 1
    assert "theirs PSNR: DIFFERS, largest difference 0.002" in capsys.readouterr().out


def test_every_published_column_has_a_metric_of_this_tool():
    assert {key for key, _ in TOLERANCES.values()} <= METRICS.keys()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file,PSNR\na.png,high\n", "theirs.csv: PSNR of a.png is 'high', no number"),
        (b"file,PSNR\na.png,\n", "theirs.csv: PSNR of a.png is '', no number"),
        (b"file,PSNR\na.png\n", "theirs.csv: PSNR of a.png is None, no number"),
        (b"file,PSNR\na.png,20,30\n", "theirs.csv: row 2 names no file, or has more cells"),
        (b"PSNR,file\n20,a.png\n20\n", "theirs.csv: row 3 names no file, or has more cells"),
        (b"file,PSNR\n\xff.png,20\n", "theirs.csv is no table of scores: 'utf-8' codec"),
        (b'file,PSNR\na.png,"' + b"9" * 200_000, "theirs.csv is no table of scores: field larger"),
    ],
)
def test_odd_cells_are_named(folder, capsys, table, message):
    folder, _ = folder
    (folder / "theirs.csv").write_bytes(table)
    assert main([str(folder), "--weights", str(folder / "none")]) == 2
    assert message in capsys.readouterr().err


def test_an_odd_cell_of_a_picture_that_is_not_here_does_no_harm(folder):
    folder, psnr = folder
    publish(folder, 0, f"file,PSNR\na.png,{psnr}\nmean,\n")
    assert main([str(folder), "--weights", str(folder / "none")]) == 0


def test_nothing_tested_is_no_success(folder, capsys):
    folder, _ = folder
    publish(folder, 0, "file,LPIPS\na.png,0.1\n")
    assert main([str(folder), "--weights", str(folder / "none")]) == 1
    publish(folder, 0, "file,PSNR\nz.png,20\n")
    assert main([str(folder)]) == 2
    assert "no picture of" in capsys.readouterr().err
    (folder / "theirs.csv").unlink()
    assert main([str(folder)]) == 2
    assert "needs a NAME.csv" in capsys.readouterr().err
