"""The report about a run that is not started: its numbers by hand, its refusals, and that it needs no weights."""

from __future__ import annotations

import pytest

from tests.training.conftest import SMOKE
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.planning import plan
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.planning.collectives import collective_bytes
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import parse_train

HLO = """HloModule jit_step, entry_computation_layout={()->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %s = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]) parameter(0)
  %x = f32[8,4]{1,0:T(8,128)} all-reduce(%y), replica_groups={}, to_apply=%add
}

ENTRY %main () -> f32[] {
  %g = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%c), dimensions={0}
  %d = bf16[8,4]{1,0} all-gather-done(%g)
  %r = (f32[10]{0}, f32[6]{0}) all-reduce(%e, %f), to_apply=%add
  %w = (s32[], f32[8,4]) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_collectives_are_counted_by_hand():
    assert collective_bytes(HLO) == {"all-gather": 8 * 4 * 2, "all-reduce": 4 * 16 + 3 * 4 * 32}


@pytest.fixture
def config(tmp_path):
    """The smoke teacher, whose first stage was never trained, as a file of its own."""
    values = read_config_file(SMOKE)["teacher"]
    file = tmp_path / "teacher.py"
    file.write_text(f"def get_config():\n    return {values!r}\n")
    return file


def test_the_smoke_teacher_on_the_devices_here(config, capsys):
    args = ["--config", str(config), "--set", "batch_size=8", "--step", "train"]
    assert plan.main(args) == plan.FITS
    report = capsys.readouterr().out
    assert "8 x cpu on 1 hosts" in report
    assert "is not here; assumed: vqgan as configured" in report
    assert "| peak memory |" in report
    assert "| collectives, all-reduce |" in report


def test_sampling_step_needs_no_weights_either(config, capsys):
    assert plan.main(["--config", str(config), "--step", "sample", "--sample_batch", "1"]) == plan.FITS
    assert "sampling step" in capsys.readouterr().out


def test_what_is_assumed_fits_the_run(tmp_path):
    """The prior's alignment starts from parts of what it trains, a tokenizer and a VAR."""
    cfg, assumed = with_assumed_weights(parse_train(read_config_file(SMOKE)["align"]), tmp_path)
    assert len(assumed) == 2
    assert tasks.make(cfg).networks.keys() == {"pvar", "reader", "head", "tokenizer"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v5e:999x999"], "--topology v5e:999x999: "),
        (["--set", "mesh.fsdp=3"], "mesh.fsdp=3 does not divide 8 devices"),
        (["--set", "nothing=3"], "nothing"),
    ],
)
def test_refusals_are_one_line(config, capsys, arguments, message):
    assert plan.main(["--config", str(config), *arguments]) == plan.USAGE
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_chain_is_not_a_run(capsys):
    assert plan.main(["--config", str(SMOKE)]) == plan.USAGE
    assert "chain of runs; plan one, as --config FILE:" in capsys.readouterr().err


def test_samples_per_device_stay_on_more_chips(config):
    cfg = parse_train(read_config_file(config) | {"batch_size": 8, "mesh": {"data": 2, "fsdp": 2}})
    grown = plan.on_all(cfg, 16)
    assert (grown.batch_size, grown.mesh.data, grown.mesh.fsdp) == (32, 0, 2)


def test_what_a_task_refuses_is_not_advised(config):
    teacher = parse_train(read_config_file(config))
    first_stage = parse_train(read_config_file(SMOKE)["vqgan"])
    assert "--set remat=full" in plan._advice("full", teacher)
    assert "remat" not in plan._advice("full", first_stage)


def test_a_fault_of_ours_keeps_its_trace(config, monkeypatch):
    def broken(args):
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(plan, "_plan", broken)
    with pytest.raises(ValueError, match="shapes do not fit"):
        plan.main(["--config", str(config)])
