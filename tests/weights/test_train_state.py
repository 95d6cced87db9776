"""What a failed save leaves running."""

import types

from vdiffsr_jax.weights.train_state import _without_late_writes


def test_only_writes_whose_loop_is_gone_are_silent():
    told = []
    for message in ("Event loop is closed", "something else"):
        _without_late_writes(types.SimpleNamespace(exc_value=RuntimeError(message)), told.append)
    assert [str(each.exc_value) for each in told] == ["something else"]
