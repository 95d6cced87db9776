"""What a failed save leaves running; which states stay."""

import contextlib
import types
import warnings

import numpy as np
import pytest
from etils import epath

from vdiffsr_jax.weights.orbax_items import _without_late_writes, silence_failures
from vdiffsr_jax.weights.train_state import TrainCheckpoints


def test_only_writes_whose_loop_is_gone_are_silent():
    told = []
    for message in ("Event loop is closed", "something else"):
        _without_late_writes(types.SimpleNamespace(exc_value=RuntimeError(message)), told.append)
    assert [str(each.exc_value) for each in told] == ["something else"]


def test_only_writes_that_were_not_begun_are_silent():
    async def write_fragment() -> None: ...

    async def of_somebody_else() -> None: ...

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        silence_failures()
        write_fragment()
        of_somebody_else()
    assert ["of_somebody_else" in str(each.message) for each in told] == [True]


@pytest.mark.parametrize("rising", [True, False])
def test_a_state_without_a_value_of_the_metric_ranks_worst(tmp_path, rising):
    """As where the run has begun with another eval.best."""
    checkpoints = TrainCheckpoints(epath.Path(tmp_path), every=1, keep_last=1, keep_best=1, best="lpips", rising=rising)
    with contextlib.closing(checkpoints):
        for step, metrics in enumerate([{"psnr_y": 9.0}, {"lpips": 1.0}, {"lpips": float("nan")}, {"psnr_y": 8.0}], 1):
            checkpoints.save(step, {"x": np.zeros(1)}, {}, metrics)
        checkpoints.manager.wait_until_finished()
        assert sorted(checkpoints.manager.all_steps()) == [2, 4]
