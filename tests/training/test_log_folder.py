"""Logs that end up in a bucket: sent about once, in parts that can be read alone, while the run goes on."""

from __future__ import annotations

import json
import shutil
import time
from typing import Any

import pytest
from etils import epath

from tests.training.test_metrics import events
from vdiffsr_jax.training import log_folder, plot
from vdiffsr_jax.training.metrics import Log, read_log
from vdiffsr_jax.weights import storage


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, int]]:
    """Every folder counts as a bucket; (name, bytes) of every object that is written."""
    written: list[tuple[str, int]] = []
    local = type(epath.Path("/"))
    write = local.write_bytes

    def count(path: Any, data: bytes) -> int:
        time.sleep(0.01)  # a bucket takes its time
        written.append((path.name, len(data)))
        return write(path, data)

    monkeypatch.setattr(local, "write_bytes", count)
    monkeypatch.setattr(storage, "is_remote", lambda path: True)
    monkeypatch.setattr(log_folder, "SECONDS", 0.005)
    monkeypatch.setattr(log_folder, "PART_BYTES", 4096)
    return written


def fill(log: Log, steps: range) -> None:
    for step in steps:
        log.scalars(step, "train", {"loss": 1 / step})
        log.image(step, "held_out", b"x" * 500, (1, 1))


def test_a_bucket_gets_every_byte_about_once_and_nobody_waits_for_it(tmp_path, sent):
    workdir = epath.Path(tmp_path)
    log = Log(workdir)
    began = time.monotonic()
    fill(log, range(1, 201))
    assert time.monotonic() - began < 1, "400 uploads would take 4 s"
    log.close()
    whole = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert whole > 200 * 500
    assert sum(size for _, size in sent) < 2 * whole
    assert max(size for _, size in sent) < 4096 + 1000, "memory holds one part"


def test_a_continued_run_adds_parts_and_all_are_read(tmp_path, sent):
    workdir = epath.Path(tmp_path)
    for steps in (range(1, 101), range(90, 141)):
        log = Log(workdir)
        fill(log, steps)
        log.close()
        assert not log.place.folder.exists()
    assert len(list(workdir.glob("log.jsonl.*"))) >= 3
    lines = read_log(workdir)
    assert [line["step"] for line in lines] == list(range(1, 141))
    assert plot.main([str(workdir)]) == 0


def test_every_part_of_an_event_file_holds_whole_records(tmp_path, sent):
    workdir = epath.Path(tmp_path)
    log = Log(workdir)
    fill(log, range(1, 31))
    log.close()
    parts = sorted(workdir.glob("*tfevents*"))
    assert len(parts) >= 3
    steps = [event.step for part in parts for event in events(part.read_bytes())]
    assert steps == [0, *(step for step in range(1, 31) for _ in range(2))]


def test_a_bucket_that_is_away_for_a_while_costs_nothing(tmp_path, sent, monkeypatch, caplog):
    local, gone = type(epath.Path("/")), [True]
    write = local.write_bytes

    def refuse(path: Any, data: bytes) -> int:
        if gone[0]:
            raise RuntimeError("503")
        return write(path, data)

    monkeypatch.setattr(local, "write_bytes", refuse)
    log = Log(epath.Path(tmp_path))
    fill(log, range(1, 21))
    while "503" not in caplog.text:
        time.sleep(0.01)
    gone[0] = False
    fill(log, range(21, 41))
    gone[0] = True
    with pytest.raises(OSError, match=r"the logs could not be written \(503\); they are in .*vdiffsr_log_"):
        log.close()
    assert len((log.place.folder / "log.jsonl").read_text().splitlines()) == 40
    shutil.rmtree(log.place.folder)


def test_here_the_log_is_one_file(tmp_path):
    log = Log(epath.Path(tmp_path))
    fill(log, range(1, 3))
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2]
    log.close()
    with pytest.raises(FileNotFoundError, match="no log of a run"):
        read_log(epath.Path(tmp_path / "elsewhere"))


def test_what_ended_a_run_stands_in_its_log(tmp_path):
    log = Log(epath.Path(tmp_path))
    fill(log, range(1, 3))
    with pytest.raises(ValueError, match="at step 3"), log.keeping_traces():
        raise ValueError("at step 3")
    log.close()
    (error,) = [line for line in read_log(epath.Path(tmp_path)) if line["kind"] == "error"]
    assert "Traceback" in error["trace"]
    assert "ValueError: at step 3" in error["trace"]
    assert plot.main([str(tmp_path)]) == 0
