"""The benchmarks at work on tiny sizes."""

from __future__ import annotations

import json

from benchmarks import accelerator, host


def test_the_host_feeds_instant_devices():
    wall, busy = host.seconds_a_tile(16, 8, 48, 1)
    assert wall > 0
    assert busy >= 0


def test_rows_are_kept_one_after_the_other(tmp_path, monkeypatch):
    def broken():
        raise ValueError("no such kernel\nand more")

    rows = [("first", lambda: {"x": 1.5}), ("second", broken), ("third", lambda: {"y": 2})]
    monkeypatch.setattr(accelerator, "rows", lambda preset: iter(rows))
    done = accelerator.measure("small", 60, tmp_path / "out")
    assert done == [{"row": "first", "x": 1.5}, {"row": "second", "failed": "no such kernel"}, {"row": "third", "y": 2}]
    assert json.loads((tmp_path / "out.json").read_text()) == done
    assert "| first | x 1.5 |" in (tmp_path / "out.md").read_text()


def test_what_does_not_fit_is_said(tmp_path):
    done = accelerator.measure("small", -1, tmp_path / "out")
    assert len(done) == 7
    assert all("not run" in row for row in done)
