"""Lines, logs and event files: what is written can be read back, and is right."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from vdiffsr_jax.metrics.psnr_ssim import eight_bit, luma, psnr, psnr_y
from vdiffsr_jax.photos import sheet
from vdiffsr_jax.training import heldout, plot
from vdiffsr_jax.training.events import EventFile
from vdiffsr_jax.training.metrics import Log, NonFiniteError, Window, duration, progress_line, read_log


def test_window_reads_late_and_averages():
    window = Window(batch_size=4)
    for step, loss in ((1, 1.0), (2, 3.0)):
        window.add(step, {"loss": jnp.asarray(loss), "finite": jnp.asarray(1.0)}, np.arange(4))
    assert window.count == 1, "the newest step is still pending"
    means = window.means()
    assert means["loss"] == 2.0
    assert "finite" not in means
    assert means["images_per_second"] > 0


def test_not_finite_names_step_and_samples():
    window = Window(batch_size=2)
    bad = {"loss": jnp.asarray(jnp.nan), "l1": jnp.asarray(0.5), "finite": jnp.asarray(0.0)}
    window.add(7, bad, np.array([14, 15]))
    with pytest.raises(NonFiniteError, match=r"step 7: loss nan is not finite; .* samples were 14, 15"):
        window.flush()


def test_progress_line():
    means = {"loss": 0.5, "l1": 0.25, "learning_rate": 1e-4, "images_per_second": 8.0, "data_wait": 0.031}
    means |= {"step_ms": 2000.0, "tflops_per_device": 30.0}
    line = progress_line(100, 1000, 16, means)
    assert line == "step 100/1000  loss 0.5  l1 0.25  lr 0.0001  8.0 images/s  2000 ms/step  data wait 3%  left 30m00s"
    assert "ms/step  MFU 41%  HFU 52%  data" in progress_line(100, 1000, 16, means | {"mfu": 0.41, "hfu": 0.52})
    assert duration(3725) == "1h02m"


def test_log_survives_a_kill_and_a_repeat(tmp_path):
    log = Log(tmp_path)
    for step, loss in ((1, 5.0), (2, 4.0), (2, 3.0)):
        log.scalars(step, "train", {"loss": loss})
    log.scalars(2, "eval", {"psnr_y": 20.0})
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 3, "ki')
    lines = read_log(tmp_path)
    assert [(line["step"], line["kind"]) for line in lines] == [(1, "train"), (2, "train"), (2, "eval")]
    assert lines[1]["loss"] == 3.0


def events(data: bytes) -> list[Event]:
    """The records of an event file or of whole parts of one: length, checksum, message, checksum."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(Event.FromString(data[at + 12 : at + 12 + length]))
        at += length + 16
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a device that is always full")
@pytest.mark.parametrize("part", ["file", "events"])
def test_a_log_that_cannot_be_written_is_named(tmp_path, part):
    log = Log(tmp_path)
    writer = log if part == "file" else log.events
    writer.file.close()
    told = pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'")
    with open("/dev/full", "wb", buffering=0) as writer.file, told:
        log.scalars(1, "train", {"loss": 1.0})
    log.close()


def test_event_file_is_readable_before_it_is_closed(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(300, {"train/loss": 0.25, "train/l1": 2.0})
    file.image(301, "grid", b"png", (5, 7))
    (path,) = tmp_path.glob("events.out.tfevents.*")
    version, scalars, image = events(path.read_bytes())
    file.close()
    assert version.file_version == "brain.Event:2"
    assert scalars.step == 300
    assert {v.tag: v.simple_value for v in scalars.summary.value} == {"train/loss": 0.25, "train/l1": 2.0}
    (value,) = image.summary.value
    shown = value.image
    assert (image.step, value.tag, shown.height, shown.width, shown.encoded_image_string) == (301, "grid", 5, 7, b"png")


def test_grid_places_columns():
    lr = np.zeros((2, 4, 4, 3), np.uint8)
    hr = np.full((2, 16, 16, 3), 255, np.uint8)
    image = heldout.draw_grid({"LR": lr, "HR": hr})
    assert image.size == (2 * 16 + 4, 18 + 2 * 16 + 4)
    pixels = np.asarray(image)
    assert (pixels[18:34, :16] == 0).all()
    assert (pixels[18:34, 20:] == 255).all()
    assert Image.open(io.BytesIO(sheet.png(image))).size == image.size
    assert eight_bit(jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


def test_held_out_psnr_is_the_reported_one():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(2))
    want = psnr(luma(a), luma(b))
    got = psnr_y(*(jnp.asarray(x[None] / np.float32(127.5) - np.float32(1)) for x in (a, b)))
    np.testing.assert_allclose(got[0], want, rtol=1e-5)


def test_plot(tmp_path, monkeypatch, capsys):
    lines = [{"step": s, "kind": "train", "time": 0, "loss": 1 / s, "l1": 0.5} for s in range(1, 200)]
    lines += [{"step": 100, "kind": "eval", "time": 0, "psnr_y": 21.0}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = plot.curves(lines)
    assert list(found) == ["loss", "l1", "psnr_y"]
    assert found["psnr_y"] == {"eval": [(100, 21.0)]}
    assert plot.main([str(tmp_path)]) == 0
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1260, 260)
        assert np.asarray(image.convert("L")).std() > 10, "curves are drawn"
    assert plot.main([str(tmp_path), "--output", str(tmp_path / "curves.svg")]) == 0
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    assert plot.main([str(tmp_path), "--output", str(tmp_path / "curves.xyz")]) == 1
    assert plot.main([str(tmp_path), "--only", "nothing"]) == 1
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "matplotlib.figure", None)
        assert plot.main([str(tmp_path)]) == 1
    assert 'pip install "vdiffsr-jax[plots]"' in capsys.readouterr().err
    assert plot.smoothed([(1, 1.0), (2, 3.0), (3, 5.0)], 2) == [(1, 1.0), (2, 2.0), (3, 4.0)]


def test_a_plot_that_is_broken_off_leaves_the_file_before(tmp_path, monkeypatch):
    def half(figure, file, **options):
        with contextlib.nullcontext(file) if hasattr(file, "write") else file.open("wb") as place:
            place.write(b"half")
        raise KeyboardInterrupt

    (tmp_path / "log.jsonl").write_text('{"step": 1, "kind": "train", "time": 0, "loss": 1.0}\n')
    (tmp_path / "curves.png").write_bytes(b"before")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(KeyboardInterrupt):
        plot.main([str(tmp_path)])
    assert (tmp_path / "curves.png").read_bytes() == b"before"


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    drawn, sheet = [], plot.sheet
    monkeypatch.setattr(plot, "sheet", lambda runs, only: drawn.extend(runs) or sheet(runs, only))
    folders = [tmp_path / name for name in ("a/model", "b/model", "b/other")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text('{"step": 1, "kind": "train", "time": 0, "loss": 1.0}\n')
    assert plot.main([*map(str, folders), "--output", str(tmp_path / "curves.png")]) == 0
    assert drawn == ["a/model", "b/model", "b/other"]
