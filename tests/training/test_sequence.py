"""A chain of toys: given time or steps, killed in the middle, continued, repeated without a clock."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from etils import epath

from tests.training.test_loop import assert_same_state
from tests.training.toy import ToyTask, toy_config, use_toy
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.training import loop, sequence, timed
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.timed import PROBE, Timer, with_steps


@pytest.fixture
def runs(monkeypatch) -> list[Run]:
    """Every run of a chain of toys, which promise and export nothing."""
    made: list[Run] = []
    use_toy(monkeypatch)

    class Recorded(Run):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

        def _export(self, directory: epath.Path) -> None:
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "config.json").write_text("{}")

    monkeypatch.setattr(sequence, "Run", Recorded)
    monkeypatch.setattr(sequence, "_promises", lambda task, path: {})
    return made


def configs(root: Path, **changes) -> dict[epath.Path, TrainConfig]:
    settings = {"eval": {"every": 0}, "checkpoint": {"every": 10}, "log_every": 10, **changes}
    return {epath.Path(root) / name: toy_config(share=share, **settings) for name, share in (("a", 1.0), ("b", 2.0))}


def test_time_becomes_steps_which_repeat_the_chain_without_a_clock(tmp_path, runs, monkeypatch):
    monkeypatch.setattr(timed, "SHARE", 0.0)  # one step after those that were timed, however slow this machine is
    root, other = epath.Path(tmp_path / "timed"), epath.Path(tmp_path / "again")
    assert sequence.run(configs(root, steps=5), root, seconds=10**6)
    assert json.loads((root / "steps.json").read_text()) == {"a": 3, "b": 3}
    assert [int(run.state.step) for run in runs] == [3, 3]
    assert runs[1].ahead is not None, "the second step was compiled while the first run trained"
    assert sequence.run(configs(other, steps=5), other, steps=sequence.read_steps(root / "steps.json"))
    for with_clock, without in zip(runs[:2], runs[2:], strict=True):
        assert_same_state(with_clock.state, without.state)


def test_killed_in_the_middle_the_same_call_continues(tmp_path, runs, monkeypatch):
    root, step = epath.Path(tmp_path), Run._step

    def told_to_stop(self, batch, done, window):
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, done, window)

    monkeypatch.setattr(loop.Run, "_step", told_to_stop)
    assert not sequence.run(configs(root, steps=7), root)
    assert int(runs[0].state.step) == 6
    monkeypatch.setattr(loop.Run, "_step", step)
    assert not sequence.run(configs(root, steps=7), root, seconds=0.0), "no time, no step"
    assert int(runs[1].state.step) == 6
    assert sequence.run(configs(root, steps=7), root)
    assert [int(run.state.step) for run in runs[2:]] == [7, 7]
    count = len(runs)
    assert sequence.run(configs(root, steps=7), root)
    assert len(runs) == count, "what is complete is left as it is"


def test_a_step_compiled_ahead_for_other_learning_rates_is_compiled_anew(tmp_path, runs, monkeypatch):
    """As when units that were promised trained come untrained: only loading them tells."""
    load, group = ToyTask.load, ToyTask.group

    def loaded(self, key, placement):
        self.untrained = True
        return load(self, key, placement)

    def grouped(self, name):
        return group(self, name) if hasattr(self, "untrained") else "base"

    together, alone = epath.Path(tmp_path / "together"), epath.Path(tmp_path / "alone")
    monkeypatch.setattr(ToyTask, "load", loaded)
    monkeypatch.setattr(
        ToyTask, "group", lambda self, name: group(self, name) if hasattr(self, "untrained") else "base"
    )
    optimizer = {"learning_rate": 1e-2, "new_learning_rate": 1e-1, "warmup": 1, "schedule": "constant"}
    assert sequence.run(configs(together, steps=3, optimizer=optimizer), together)
    chain = configs(alone, steps=3, optimizer=optimizer)
    assert sequence.run(dict(list(chain.items())[1:]), alone)
    assert runs[1].ahead is not None
    assert runs[2].ahead is None
    assert_same_state(runs[1].state, runs[2].state)


def test_a_step_that_could_not_be_compiled_ahead_is_compiled_in_its_turn(tmp_path, runs, monkeypatch, capsys):
    def out_of_memory(cfg, promises):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(sequence, "_compile", out_of_memory)
    assert sequence.run(configs(epath.Path(tmp_path), steps=2), epath.Path(tmp_path))
    assert "the step was not compiled ahead and is now: RESOURCE_EXHAUSTED: out of memory" in capsys.readouterr().out


def test_evaluations_are_divided_once_from_what_the_configuration_says(tmp_path, runs, monkeypatch):
    """The number of steps that a run is given while it is timed does not count."""
    monkeypatch.setattr(timed, "SHARE", 0.0)
    settings = {"steps": 10, "eval": {"every": 3, "batches": 1}, "optimizer": {"warmup": 19}}
    (path, cfg), _ = configs(epath.Path(tmp_path), **settings).items()
    assert sequence.run({path: cfg}, epath.Path(tmp_path), seconds=10**6)
    assert runs[0].cfg == timed.with_steps(cfg, runs[0].cfg.steps)
    assert sequence.run({path: cfg}, epath.Path(tmp_path))
    assert len(runs) == 1, "complete"


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, which passes as a test says."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def paced(timer: Timer, clock: list[float], paces: dict[int, float]) -> list[int | None]:
    """What the timer answers after steps {step: seconds}."""
    answers = []
    for step, pace in paces.items():
        clock[0] += pace
        answers.append(timer.after(step, {}))
    return answers


def test_timer_fixes_the_steps_once_by_those_that_are_warm(clock):
    """As on a GPU: 40 seconds of compiling, slow steps at first, 64 a second from then on."""
    told: list[int] = []
    timer = Timer(100.0, toy_config(optimizer={"warmup": 50}), told.append)
    paces = {1: 40.0} | dict.fromkeys(range(2, 11), 1.0) | dict.fromkeys(range(11, 31), 1 / 64)
    answers = paced(timer, clock, paces)
    left = 100 - 49 - 10 / 64
    # A part is kept for evaluations.
    assert answers == [None] * (PROBE - 1) + [20 + int(0.85 * left * 64)] + [None] * 10
    assert told == [answers[PROBE - 1]]


def test_a_short_warm_up_leaves_one_step_to_time(clock):
    timer = Timer(100.0, toy_config(optimizer={"warmup": 1}), lambda steps: None)
    assert paced(timer, clock, {1: 10.0, 2: 0.5, 3: 0.5}) == [None, 2 + int(0.85 * 89.5 / 0.5), None]


def test_a_run_broken_off_while_it_is_timed_fixes_its_steps_within_the_warm_up(clock):
    told: list[int] = []
    for steps in (range(1, 16), range(16, 19), range(19, 31)):  # each a process of its own
        clock[0] = 0.0
        timer = Timer(100.0, toy_config(optimizer={"warmup": 50}), told.append)
        answers = paced(timer, clock, dict.fromkeys(steps, 2.0))
    # Step 19, whose end starts the clock, and step 20.
    assert told == [answers[1]] == [20 + int(0.85 * 96.0 / 2.0)]


def test_evaluations_keep_their_number():
    cfg = with_steps(toy_config(steps=100, eval={"every": 25}), 1000)
    assert (cfg.steps, cfg.eval.every) == (1000, 250)
    assert with_steps(toy_config(eval={"every": 0}), 7).eval.every == 0


@pytest.mark.parametrize("content", ["[]", "{", '{"a": "many"}', '{"a": 0}'])
def test_a_wrong_steps_file_is_refused(tmp_path, content):
    (tmp_path / "steps.json").write_text(content)
    with pytest.raises(ConfigError, match="does not say how many steps"):
        sequence.read_steps(epath.Path(tmp_path / "steps.json"))
