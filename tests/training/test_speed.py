"""Utilisation by hand, chips by name, and a trace of chosen steps."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest
from etils import epath

from tests.training.test_killed import start
from tests.training.toy import ToyTask, toy_config, use_toy
from vdiffsr_jax.models.remat import remat_block
from vdiffsr_jax.ops import attention
from vdiffsr_jax.training import speed, tasks
from vdiffsr_jax.training.loop import Run
from vdiffsr_jax.training.metrics import read_log
from vdiffsr_jax.training.speed import CHIPS, Speed, chip_of


def test_chips_are_told_apart():
    names = [chip_of(kind) and chip_of(kind).name for kind in ("TPU v5 lite", "TPU v5", "NVIDIA H100 80GB HBM3", "cpu")]
    assert names == ["TPU v5e", "TPU v5p", "H100", None]


@pytest.mark.parametrize(
    ("kind", "teraflops", "gigabytes"),
    [
        ("NVIDIA A100-SXM4-80GB", 312, 80),
        ("NVIDIA A100 80GB PCIe", 312, 80),
        ("NVIDIA A100-SXM4-40GB", 312, 40),
        ("NVIDIA A100-PCIE-40GB", 312, 40),
        ("NVIDIA H100 80GB HBM3", 989, 80),
        ("NVIDIA H100 PCIe", 756, 80),
        ("NVIDIA H100 NVL", 835, 94),
        ("NVIDIA H200", 989, 141),
        ("NVIDIA H200 NVL", 835, 141),
    ],
)
def test_cards_of_one_name_have_other_peaks_and_memory(kind, teraflops, gigabytes):
    """As CUDA calls them; a plan says by the memory whether a run fits."""
    chip = chip_of(kind)
    assert (chip.flops, chip.memory) == (teraflops * 1e12, gigabytes * 1e9)


def test_utilisation_is_work_over_time_over_peak():
    rates = Speed(done=394e12, needed=197e12, chip=chip_of("TPU v5 lite"))
    assert rates.at(4.0) == pytest.approx({"tflops_per_device": 98.5, "hfu": 0.5, "mfu": 0.25})
    assert Speed(done=1e9, needed=1e9, chip=None).at(1.0).keys() == {"tflops_per_device"}


def test_what_is_computed_again_is_work_of_the_hardware_not_of_the_model(tmp_path, monkeypatch):
    """By remat, and by attention in blocks of queries, whatever remat says."""

    class Recomputing(ToyTask):
        def apply(self, network, flat, x):
            return remat_block(lambda x: super(Recomputing, self).apply(network, flat, x), self.cfg.remat)(x)

    class Reading(ToyTask):
        def apply(self, network, flat, x):
            tokens = super().apply(network, flat, x).reshape(x.shape[0], -1, 1, x.shape[-1])
            return attention.attention(tokens, tokens, tokens).reshape(x.shape)

    monkeypatch.setattr(attention, "MAX_LOGITS", 2**8)
    monkeypatch.setattr(speed, "chip_of", lambda kind: CHIPS["NVIDIA H100"])
    found = {}
    for case, task, remat in (
        ("none", Recomputing, "none"),
        ("full", Recomputing, "full"),
        ("blocks", Reading, "none"),
    ):
        monkeypatch.setattr(tasks, "make", task)
        use = toy_config(steps=1, remat=remat, eval={"every": 0})
        run = Run(use, epath.Path(tmp_path / case))
        monkeypatch.setattr(run, "_export", lambda directory: None)
        run.run()
        found[case] = read_log(tmp_path / case)[-1]
    assert found["none"]["hfu"] == found["none"]["mfu"]
    assert found["full"]["hfu"] > 1.1 * found["full"]["mfu"]
    assert found["blocks"]["hfu"] > 1.1 * found["blocks"]["mfu"]


def test_a_run_logs_its_speed_and_traces_the_steps_it_was_asked_for(tmp_path):
    # In a process of its own: the profiler has crashed one that had compiled hundreds of programs before.
    assert start(tmp_path / "run", "trace").wait() == 0
    line = read_log(tmp_path / "run")[-1]
    assert line["step_ms"] > 0
    assert line["tflops_per_device"] > 0
    assert list((tmp_path / "run" / "profile").rglob("*.xplane.pb"))


@pytest.fixture
def profiler(monkeypatch) -> list[str]:
    """What the profiler was told."""
    told: list[str] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: told.append(f"start {Path(path).parent.name}"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: told.append("stop"))
    return told


def test_a_trace_ends_with_its_run(tmp_path, monkeypatch, profiler, capsys):
    use_toy(monkeypatch)
    cfg = toy_config(steps=2, eval={"every": 0})
    for name in ("a", "b"):
        Run(cfg, epath.Path(tmp_path / name), profile=(2, 5)).run()
    assert profiler == ["start a", "stop", "start b", "stop"]
    monkeypatch.setattr(Run, "_report", lambda self, step, window: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Run(cfg, epath.Path(tmp_path / "c"), profile=(1, 2)).run()
    assert profiler[4:] == ["start c", "stop"]
    assert "nothing is profiled" not in capsys.readouterr().out


def test_steps_to_profile_that_lie_behind_are_told(tmp_path, monkeypatch, profiler, capsys):
    use_toy(monkeypatch)
    workdir = epath.Path(tmp_path)
    Run(toy_config(steps=2, eval={"every": 0}), workdir).run()
    Run(toy_config(steps=3, eval={"every": 0}), workdir, profile=(2, 3)).run()
    assert capsys.readouterr().out.count("nothing is profiled: step 2 lies behind, this run goes on after step 2") == 1
    assert not profiler
