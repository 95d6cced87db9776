"""The loop: resumes exactly, stops when told, saves nothing that is not finite, keeps best and last."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from tests.training.toy import ToyTask, toy_config, use_toy
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.training import sequence
from vdiffsr_jax.training import workdir as workdir_of
from vdiffsr_jax.training.config import TrainConfig
from vdiffsr_jax.training.loop import Outcome, Run
from vdiffsr_jax.training.metrics import NonFiniteError, read_log
from vdiffsr_jax.training.workdir import differences
from vdiffsr_jax.weights.checkpoint import CheckpointError


def assert_same_state(a, b) -> None:
    """Bit for bit: parameters, averages, moments, step."""
    left, right = (jax.tree_util.tree_flatten_with_path(state)[0] for state in (a, b))
    assert [path for path, _ in left] == [path for path, _ in right]
    for (path, x), (_, y) in zip(left, right, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y), err_msg=jax.tree_util.keystr(path))


def stored_step(cfg: TrainConfig, workdir: Path) -> int:
    """Where a new start of the run would continue."""
    with contextlib.closing(Run(cfg, workdir)) as run:
        return int(run.state.step)


def test_resumed_equals_unbroken(tmp_path, monkeypatch):
    exported: list[Path] = []
    use_toy(monkeypatch, exported)
    unbroken = Run(toy_config(), tmp_path / "a")
    assert unbroken.run() == Outcome(4, interrupted=False)
    assert exported[-1] == tmp_path / "a" / "model"
    Run(toy_config(steps=2), tmp_path / "b").run()
    resumed = Run(toy_config(mesh={"fsdp": 8, "min_shard_size": 1}, steps=2), tmp_path / "b")
    assert resumed.state.params["toy/inner/kernel"].sharding.spec == jax.sharding.PartitionSpec(None, "fsdp")
    resumed.close()
    resumed = Run(toy_config(), tmp_path / "b")
    assert int(resumed.state.step) == 2
    resumed.run()
    assert_same_state(resumed.state, unbroken.state)
    assert resumed.data.get_state() == unbroken.data.get_state()
    assert [line["step"] for line in read_log(tmp_path / "b") if line["kind"] == "train"] == [1, 2, 3, 4]
    assert (tmp_path / "a" / "grids" / "0000002.png").exists()
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["batch_size"] == 8


def test_told_to_stop(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    run = Run(toy_config(steps=10**6, eval={"every": 0}, checkpoint={"every": 10**6}), tmp_path)
    report = run._report

    def at_step_3(step, window):
        report(step, window)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    run._report = at_step_3
    outcome = run.run()
    assert outcome.interrupted
    assert outcome.step == 3
    assert stored_step(toy_config(), tmp_path) == 3
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_not_finite_stops_and_keeps_the_last_good(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    gradients = ToyTask.gradients

    def broken(self, params, frozen, batch, key, step):
        grads, metrics = gradients(self, params, frozen, batch, key, step)
        return grads, metrics | {"loss": jax.numpy.where(step == 2, jax.numpy.inf, metrics["loss"])}

    monkeypatch.setattr(ToyTask, "gradients", broken)
    cfg = toy_config(checkpoint={"every": 1}, eval={"every": 0})
    with pytest.raises(NonFiniteError, match=r"step 3: loss inf is not finite; .* were 16, 17, 18, 19, 20, 21, 22, 23"):
        Run(cfg, tmp_path).run()
    monkeypatch.setattr(ToyTask, "gradients", gradients)
    assert stored_step(cfg, tmp_path) == 2


def kept_steps(workdir: Path) -> list[int]:
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


def judged_by(run: Run, scores: list[float], metric: str = "psnr_y") -> Run:
    """`run`, whose model has these values of `metric`, one after the other."""
    judge, values = run.held_out, iter(scores)

    def scored(flat):
        metrics, grid = judge(flat)
        return metrics | {metric: next(values)}, grid

    run.held_out = scored
    return run


def scored_config(steps: int, **evaluation) -> TrainConfig:
    return toy_config(
        steps=steps, checkpoint={"every": 1, "keep_last": 2}, eval={"every": 1, "batches": 1, **evaluation}
    )


def test_best_and_last_are_kept(tmp_path, monkeypatch):
    exported: list[Path] = []
    use_toy(monkeypatch, exported)
    judged_by(Run(scored_config(6), tmp_path), [3.0, 9.0, 5.0, 4.0, 6.0, 8.0]).run()
    assert kept_steps(tmp_path) == [2, 5, 6]
    assert exported == [tmp_path / "best", tmp_path / "best", tmp_path / "model"]
    again = judged_by(Run(scored_config(8), tmp_path), [7.0, 7.5])
    assert again.best == 9.0
    again.run()
    assert kept_steps(tmp_path) == [2, 7, 8], "a new process knows the score of step 2"
    assert exported[3:] == [tmp_path / "model"]


def test_the_best_is_kept_where_no_save_is_due(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    cfg = toy_config(steps=7, checkpoint={"every": 5, "keep_last": 1}, eval={"every": 2, "batches": 1})
    judged_by(Run(cfg, tmp_path), [3.0, 9.0, 5.0, 6.0]).run()
    assert kept_steps(tmp_path) == [4, 7]


def test_the_last_state_is_kept_with_what_was_measured_of_it(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    cfg = toy_config(steps=3, checkpoint={"every": 10, "keep_last": 1}, eval={"every": 3, "batches": 1})
    judged_by(Run(cfg, tmp_path), [9.0]).run()
    judged_by(Run(dataclasses.replace(cfg, steps=5), tmp_path), [8.0]).run()
    assert kept_steps(tmp_path) == [3, 5]


def test_what_ends_a_run_after_its_last_step_stands_in_its_log(tmp_path, monkeypatch):
    use_toy(monkeypatch)

    def full(self, directory):
        raise OSError("no space left on device")

    monkeypatch.setattr(Run, "_export", full)
    with pytest.raises(OSError, match="no space"):
        Run(toy_config(eval={"every": 0}), epath.Path(tmp_path)).run()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines if "no space left" in line.get("trace", "")] == ["error"]


def test_the_bar_of_another_metric_is_not_taken_over(tmp_path, monkeypatch):
    exported: list[Path] = []
    use_toy(monkeypatch, exported)
    judged_by(Run(scored_config(2), tmp_path), [9.0, 8.0]).run()
    other = scored_config(4, best="error")
    run = judged_by(Run(other, tmp_path), [1e-3, 2e-3], "error")
    assert run.best is None
    del exported[:]
    run.run()
    assert exported == [tmp_path / "best", tmp_path / "model"], "lower is better"
    again = judged_by(Run(dataclasses.replace(other, steps=6), tmp_path), [3e-3, 4e-3], "error")
    assert again.best == 1e-3
    again.run()
    assert kept_steps(tmp_path) == [3, 5, 6]


def test_a_checkpoint_that_does_not_name_its_metric_has_that_of_its_configuration(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    with contextlib.closing(Run(scored_config(1, best="error"), tmp_path)) as run:
        about = {"best": 9.0, "config": {"eval": {"best": ""}}}
        assert run._best_in(about) is None, "the task's own, psnr_y"
        about["config"]["eval"]["best"] = "error"
        assert run._best_in(about) == 9.0
        assert run._best_in(about | {"best_metric": "psnr_y"}) is None


def test_directory_of_another_run_is_refused(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    Run(toy_config(eval={"every": 0}), tmp_path).close()
    (tmp_path / "config.json").write_text(json.dumps({"task": "var", "model": {}}))
    with pytest.raises(ConfigError, match=r"another task \(task=\w+ there, \w+ here\); choose another --workdir"):
        Run(toy_config(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Run(toy_config(), tmp_path / "file" / "run")


def test_a_full_disk_leaves_the_record_of_the_run_whole(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    cfg, workdir = toy_config(eval={"every": 0}), epath.Path(tmp_path)
    Run(cfg, workdir).close()
    local = type(workdir)
    write = local.write_text

    def full(path, text):
        write(path, text[:7])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local, "write_text", full)
    for write_again in (lambda: Run(cfg, workdir), lambda: workdir_of.write_json(workdir / "steps.json", {"a": 1})):
        with pytest.raises(OSError, match="No space left"):
            write_again()
    monkeypatch.setattr(local, "write_text", write)
    assert not (workdir / "steps.json").exists()
    Run(cfg, workdir).close()


@pytest.mark.parametrize("text", ["", '{"task": "vq', "[]"])
def test_a_damaged_record_is_named(tmp_path, monkeypatch, text):
    use_toy(monkeypatch)
    cfg, workdir = toy_config(steps=1, eval={"every": 0}), epath.Path(tmp_path)
    (workdir / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json is damaged; remove it, and the run goes on"):
        Run(cfg, workdir)
    with pytest.raises(ConfigError, match=r"config\.json is damaged"):
        sequence.run({workdir: cfg}, workdir)


def test_state_of_other_parameters_is_refused_and_the_record_stays(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    Run(toy_config(eval={"every": 0}), tmp_path).run()
    before = (tmp_path / "config.json").read_text()
    monkeypatch.setattr(ToyTask, "trainable", lambda self, name: name.startswith("toy/inner"))
    with pytest.raises(CheckpointError, match="checkpoints/4 does not fit this configuration"):
        Run(toy_config(eval={"every": 0}, seed=1), tmp_path)
    assert (tmp_path / "config.json").read_text() == before


def test_runs_of_different_seeds_are_judged_on_the_same_samples(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    held_out = []
    for seed in (0, 1):
        with contextlib.closing(Run(toy_config(seed=seed), epath.Path(tmp_path / str(seed)))) as run:
            held_out.append(run.held_out)
    for a, b in zip(*(each.batches for each in held_out), strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert held_out[0].key == held_out[1].key


def test_best_must_be_measured(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    with pytest.raises(ConfigError, match=r"eval\.best='lpips' is not measured; known here: .*psnr_y"):
        Run(toy_config(eval={"every": 2, "batches": 1, "best": "lpips"}), tmp_path)
    with pytest.raises(ConfigError, match=r"eval\.best='bicubic_psnr_y' judges the LR photo"):
        Run(toy_config(eval={"every": 2, "batches": 1, "best": "bicubic_psnr_y"}), tmp_path)


def test_batch_is_refused_for_the_devices_here(tmp_path, monkeypatch):
    use_toy(monkeypatch)
    with pytest.raises(ConfigError, match="batch_size=12 must divide by 8 devices; try 16"):
        Run(toy_config(batch_size=12), tmp_path)


def test_differences_are_named():
    before, now = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 5}, "d": 4}
    assert list(differences(before, now)) == [("a.c", 2, 5), ("d", 3, 4)]
