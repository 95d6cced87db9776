"""Prometheus reads a training run while it trains; a run whose steps end no more is called stalled, once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.training.toy import toy_config, use_toy
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.watch import Watch


def free_port() -> int:
    with contextlib.closing(socket.create_server(("", 0))) as server:
        return server.getsockname()[1]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scraped(port: int) -> dict[str, float]:
    status, text = get(port, "/metrics")
    assert status == 200
    return {s.name: s.value for family in text_string_to_metric_families(text) for s in family.samples}


def test_a_run_is_scraped_while_it_trains_and_its_stall_is_said(tmp_path, monkeypatch, capfd):
    use_toy(monkeypatch)
    watch, port, seen = Watch(stall=1), free_port(), []
    run = Run(toy_config(steps=4, eval={"every": 0}), tmp_path / "toy", watch=watch)
    report, healed = run._report, threading.Event()

    def slow_third_step(step, window):
        report(step, window)
        seen.append((scraped(port), get(port, "/healthz")))
        if step == 3:
            while get(port, "/healthz")[0] == 200:
                time.sleep(0.05)
            seen.append((scraped(port), get(port, "/healthz")))
            healed.set()

    run._report = slow_third_step
    began = time.time()
    with watch.watching(port):
        run.run()
        after = scraped(port)
        assert get(port, "/healthz") == (200, "ok\n")
        assert get(port, "/other")[0] == 404
    assert healed.is_set()
    second, stalled = seen[1], seen[3]
    assert second[0]["vdiffsr_run"] == 1
    assert (second[0]["vdiffsr_step"], second[0]["vdiffsr_steps"]) == (1, 4)  # the second is not over yet
    assert second[0]["vdiffsr_loss"] > 0
    assert second[0]["vdiffsr_images_per_second"] > 0
    assert 0 <= second[0]["vdiffsr_data_wait_ratio"] <= 1
    assert stalled[1] == (503, "stalled\n")
    assert stalled[0]["vdiffsr_last_save_step"] == 2
    assert began < stalled[0]["vdiffsr_last_save_timestamp_seconds"] < time.time()
    assert (after["vdiffsr_step"], after["vdiffsr_stalled"], after["vdiffsr_last_save_step"]) == (4, 0, 4)
    errors = capfd.readouterr().err
    assert "train.py: stalled: no step ended in 1 s after step 2" in errors
    assert "slow_third_step" in errors, "where the main thread stands"
    with pytest.raises(urllib.error.URLError):
        get(port, "/metrics")


def test_no_alarm_before_the_first_step_and_after_the_last(capfd):
    watch = Watch(stall=0.05)
    with watch.watching():
        watch.begin("run", 0, 2)
        time.sleep(0.15)
        assert not watch.stalled
        watch.alive(1)
        time.sleep(0.15)
        assert watch.stalled
        watch.alive(2)
        assert not watch.stalled
        watch.rest()
        time.sleep(0.15)
    assert capfd.readouterr().err.count("stalled: no step ended in 0.05 s after step 1\n") == 1


def test_a_port_in_use_is_refused():
    with contextlib.closing(socket.create_server(("", 0))) as taken:
        port = taken.getsockname()[1]
        refused = pytest.raises(ConfigError, match=f"--metrics_port {port}: Address already in use; choose another")
        with refused, Watch().watching(port):
            pass
