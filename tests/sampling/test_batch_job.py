"""Folders of photos: each bad one reported and skipped, each good one written whole."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vdiffsr_jax.photos import color, write
from vdiffsr_jax.photos.photo import ImageError, Photo
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.photos.sheet import before_and_after
from vdiffsr_jax.sampling import batch_job, files
from vdiffsr_jax.sampling.batch_job import BatchJob, Output
from vdiffsr_jax.sampling.errors import SamplingError
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.tile_model import TileModel
from vdiffsr_jax.sampling.upscaler import Settings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def run(plain_upscaler, tmp_path):
    """Run a job on tmp_path/in; gives the job and what was said."""

    def start(*, format="png", references=None, terminal=False, skip_existing=False, compare=False, **output):
        stream = Terminal() if terminal else io.StringIO()
        inputs = files.find(str(tmp_path / "in"))
        tasks = files.plan(inputs, tmp_path / "out", format=format, suffix="")
        found = files.references(tasks, inputs, str(references)) if references else None
        shown = files.sheets(tasks, tmp_path / "out") if compare else {}
        job = BatchJob(plain_upscaler, Settings(), Output(compare=shown, **output), Progress(len(tasks), stream), found)
        job.run(tasks, [task for task in tasks if skip_existing and task.target.exists()])
        return job, stream.getvalue()

    return start


@pytest.fixture
def folder(tmp_path, photo):
    (tmp_path / "in").mkdir()
    for name, crop in (("a.png", photo[:16, :16]), ("b.jpg", photo[:20, :24]), ("c.bmp", photo[:9, :30])):
        Image.fromarray(crop).save(tmp_path / "in" / name)
    return tmp_path / "in"


def written(tmp_path):
    return sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_bad_photos_are_named_and_the_others_done(run, folder, tmp_path, plain_upscaler, photo):
    (folder / "broken.jpg").write_bytes((folder / "b.jpg").read_bytes()[:-300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "foreign.tif").write_text("a text, really")
    job, said = run()
    assert sorted(name for name, _ in job.failures) == ["broken.jpg", "empty.png", "foreign.tif"]
    assert "empty.png: is empty" in said
    assert "broken.jpg: is truncated or damaged" in said
    assert "\r" not in said
    assert job.done == 3
    assert written(tmp_path) == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(read(tmp_path / "out/a.png").color, plain_upscaler(photo[:16, :16]))


def test_of_a_photo_above_the_limit_the_flag_is_said(run, folder):
    job, said = run(max_pixels=400)
    assert [name for name, _ in job.failures] == ["b.jpg"]
    assert "b.jpg: has 24 x 20 = 0 megapixels; the limit is 0.0004 (--max_megapixels)" in said


def test_alpha_depth_and_grey_survive(run, tmp_path, photo):
    (tmp_path / "in").mkdir()
    alpha = np.tile(np.linspace(0, 65535, 16).astype(np.uint16), (16, 1))
    deep = Photo(photo[:16, :16].astype(np.uint16) * 257, alpha)
    write.write(tmp_path / "in/deep.tif", deep, "tiff")
    write.write(tmp_path / "in/grey.png", Photo(photo[:16, :16, :1].repeat(3, -1), grey=True), "png")
    run()
    result = read(tmp_path / "out/deep.png")
    assert result.depth == 16
    assert result.color.shape == (64, 64, 3)
    ramp = ((np.arange(64) + 0.5) / 4 - 0.5) * 4369
    assert np.abs(result.alpha - ramp[None])[:, 8:-8].max() < 65535 / 100
    assert read(tmp_path / "out/grey.png").grey


def test_outscale_format_and_comparison(run, folder, tmp_path):
    run(format="jpeg", scale=2.5, compare=True)
    assert read(tmp_path / "out/b.jpg").color.shape == (50, 60, 3)
    assert read(tmp_path / "out/compare/b.png").color.shape == (68, 124, 3)


def test_no_sheet_replaces_another(run, tmp_path, photo):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.jpg", "b.jpg"):
        Image.fromarray(photo[:16, :16]).save(tmp_path / "in" / name)
    run(format="same", compare=True)
    assert sorted(path.name for path in (tmp_path / "out/compare").iterdir()) == ["a.jpg.png", "a.png.png", "b.png"]


def test_sheets_of_finished_photos_are_made_without_the_model(run, folder, tmp_path):
    run()
    job, _ = run(compare=True, skip_existing=True)
    assert (job.done, job.skipped) == (0, 3)
    assert sorted(path.name for path in (tmp_path / "out/compare").iterdir()) == ["a.png", "b.png", "c.png"]


def test_sheet_shows_the_middle_of_large_results(photo):
    after = np.zeros((2100, 3000, 3), np.uint16)
    assert before_and_after(photo.astype(np.uint16), after).shape == (2048 + 18, 2 * 2048 + 4, 3)


def test_scores_against_references(run, folder, tmp_path, plain_upscaler, photo):
    hr = tmp_path / "hr"
    hr.mkdir()
    result = plain_upscaler(photo[:16, :16]).astype(int)
    write.write(hr / "a.png", Photo(np.clip(result + 10, 0, 255).astype(np.uint8)), "png")
    Image.fromarray(photo[:20, :20]).save(hr / "b.png")
    job, said = run(references=hr)
    assert list(job.report.rows) == ["a.png"]
    assert 25 < job.report.rows["a.png"]["PSNR"] < 40
    assert f"b.jpg: not scored: its reference {hr / 'b.png'} has 20 x 20 pixels, its result 96 x 80" in said
    assert "c.bmp: not scored: has no reference of its name" in said
    assert (job.done, len(job.failures), len(job.unscored)) == (3, 0, 2)
    assert written(tmp_path) == ["a.png", "b.png", "c.png"]
    again, _ = run(references=hr, skip_existing=True)
    assert again.report.rows == job.report.rows


def test_existing_results_are_skipped(run, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/b.png").write_bytes(b"mine")
    job, _ = run(skip_existing=True)
    assert (job.done, job.skipped) == (2, 1)
    assert (tmp_path / "out/b.png").read_bytes() == b"mine"


def test_a_full_disk_is_reported_per_photo(run, folder, tmp_path, monkeypatch):
    original = write.write_whole

    def full(path, parts, announce):
        if path.name == "b.png":
            raise ImageError(f"cannot be written to {path}: the disk is full")
        original(path, parts, announce)

    monkeypatch.setattr(write, "write_whole", full)
    job, said = run()
    assert job.failures[0][0] == "b.jpg"
    assert "the disk is full" in said
    assert written(tmp_path) == ["a.png", "c.png"]


def test_a_photo_too_large_for_host_memory_is_skipped(run, folder, tmp_path, monkeypatch, plain_upscaler):
    original, asked = plain_upscaler.grid, []

    def grid(height, width, settings):
        asked.append(height)
        if height == 20 and asked.count(20) == 2:  # the first time, the tiles are only counted
            raise MemoryError
        return original(height, width, settings)

    monkeypatch.setattr(plain_upscaler, "grid", grid)
    job, said = run()
    assert [name for name, _ in job.failures] == ["b.jpg"]
    assert "more memory" in said
    assert written(tmp_path) == ["a.png", "c.png"]


def test_an_interruption_keeps_what_was_finished(run, folder, tmp_path, monkeypatch):
    writing = threading.Event()
    original = write.write_whole

    def slow(path, parts, announce):
        writing.set()
        time.sleep(0.3)
        original(path, parts, announce)

    def interrupted(photo, *arguments, **options):
        writing.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_whole", slow)
    monkeypatch.setattr(batch_job.Progress, "computed", lambda self, tiles: writing.is_set() and interrupted(None))
    with pytest.raises(KeyboardInterrupt):
        run()
    assert written(tmp_path) == ["a.png"]
    assert read(tmp_path / "out/a.png").color.shape == (64, 64, 3)


def test_the_bar_is_for_terminals(run, folder):
    _, said = run(terminal=True)
    assert "3/3 photos" in said
    assert "tiles/s" in said
    assert " left" in said


def test_the_total_stands_from_the_start_and_the_time_left_falls_to_zero(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    said = Terminal()
    progress = Progress(3, said)
    for _ in range(3):
        progress.expect(1000, 4.0)
    clock[0] = 50.0  # compiling
    progress.computed(2)
    assert progress.line() == "0/3 photos, 2/3000 tiles"
    clock[0] = 52.0
    progress.computed(2)
    assert progress.line() == "0/3 photos, 4/3000 tiles, 1.00 tiles/s, 00:49:56 left"
    assert "about 50 min for 12.0 Mpx\n" in said.getvalue()
    progress.finished(unused=996)
    assert "1/3 photos, 4/2004 tiles" in progress.line()
    clock[0] = 2052.0
    progress.computed(2000)
    assert progress.line().endswith("2004/2004 tiles, 1.00 tiles/s, 00:00:00 left")


def test_a_log_gets_a_line_a_minute(monkeypatch):
    clock, said = [0.0], io.StringIO()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    progress = Progress(1, said)
    progress.expect(100, 0.1)
    for second in range(101):
        clock[0] = float(second)
        progress.computed(1 if second else 0)
    assert said.getvalue().splitlines() == [
        "about 2 min for 0.1 Mpx",
        "0/1 photos, 60/100 tiles, 1.00 tiles/s, 00:00:40 left",
    ]


@pytest.fixture
def faulty(monkeypatch, plain_upscaler):
    """A model that repeats pixels, with a fault where a tile is white; in batches of four, whose tiles mix photos."""

    def spoil(fault=lambda made, white: None):
        def launch(self, lr, origins, **how):
            made, white = lr.repeat(4, 1).repeat(4, 2), (lr == 1).all((1, 2, 3))
            if white.any():
                fault(made, white)
            return made

        monkeypatch.setattr(TileModel, "launch", launch)
        monkeypatch.setattr(plain_upscaler, "batch", 4)

    return spoil


@pytest.fixture
def three(tmp_path, photo):
    """a.png of two tiles, b.png (white) of four, c.png of one."""
    (tmp_path / "in").mkdir()
    for name, crop in (("a", photo[:16, :24]), ("b", np.full((24, 24, 3), 255, np.uint8)), ("c", photo[:16, 20:36])):
        Image.fromarray(crop).save(tmp_path / "in" / f"{name}.png")
    return {"a": photo[:16, :24], "c": photo[:16, 20:36]}


def check_others(three, tmp_path, plain_upscaler):
    assert written(tmp_path) == ["a.png", "c.png"]
    for name, crop in three.items():
        np.testing.assert_array_equal(read(tmp_path / f"out/{name}.png").color, plain_upscaler(crop))


def test_numbers_that_are_not_finite_fail_their_photo_alone(run, three, faulty, tmp_path, plain_upscaler):
    def nan(made, white):
        made[white, 3, 5, 1] = np.nan

    faulty(nan)
    job, said = run()
    ((name, why),) = job.failures
    assert (name, job.done) == ("b.png", 2)
    assert why.startswith("the model's numbers are not finite in the tile at row 0, column 0")
    assert said == f"b.png: {why}\n"
    check_others(three, tmp_path, plain_upscaler)
    with pytest.raises(SamplingError, match="not finite"):
        plain_upscaler(np.full((16, 16, 3), 255, np.uint8))


def test_whatever_the_model_raises_fails_its_photo_alone_with_a_trace(run, three, faulty, tmp_path, plain_upscaler):
    def surprise(made, white):
        raise KeyError("a surprise")

    faulty(surprise)
    job, said = run()
    assert job.failures == [("b.png", "KeyError: 'a surprise'")]
    assert job.done == 2
    assert said.startswith("Traceback (most recent call last):")
    assert "in surprise" in said
    assert said.endswith("b.png: KeyError: 'a surprise'\n")
    check_others(three, tmp_path, plain_upscaler)


def test_whatever_blending_raises_fails_its_photo_alone(run, three, faulty, monkeypatch, tmp_path, plain_upscaler):
    original = color.fix

    def fix(hr, lr, method):
        if lr.min() == 255:
            raise ZeroDivisionError("a surprise")
        return original(hr, lr, method)

    faulty()
    monkeypatch.setattr(color, "fix", fix)
    job, said = run(terminal=True)
    assert job.failures == [("b.png", "ZeroDivisionError: a surprise")]
    assert "in fix" in said
    assert "3/3 photos, 7/7 tiles" in said
    check_others(three, tmp_path, plain_upscaler)
