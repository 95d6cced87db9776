"""Flags' numbers out of their range are wrong usage, said before anything is read."""

from __future__ import annotations

import pytest

from vdiffsr_jax.cli import convert, train, web
from vdiffsr_jax.planning import plan


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (web.main, "--port 65536", "--port: 65536 must lie in 0..65535"),
        (web.main, "--max_waiting 0", "--max_waiting: 0 must be at least 1"),
        (web.main, "--max_megapixels nan", "--max_megapixels: nan must be positive, and finite"),
        (web.main, "--max_megabytes inf", "--max_megabytes: inf must be positive, and finite"),
        (web.main, "--max_waiting many", "--max_waiting: invalid int value: 'many'"),
        (train.main, "--config smoke --metrics_port 70000", "--metrics_port: 70000 must lie in 0..65535"),
        (convert.main, "x.pth --seed 9223372036854775808", "--seed: 9223372036854775808 must lie in 0.."),
        (plan.main, "--config smoke --sample_batch 0", "--sample_batch: 0 must be at least 1"),
        (plan.main, "--config smoke --slices -1", "--slices: -1 must be at least 1"),
    ],
)
def test_a_number_out_of_its_range(main, flags, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(flags.split())
    assert f"error: argument {message}" in capsys.readouterr().err.splitlines()[-1]
