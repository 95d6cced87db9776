"""float32 is float32: in the traced programs every product of float32 operands asks for all digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.lax import Precision

from tests.sampling.conftest import tiny_config
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.planning import abstract_programs
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.training.chain import runs
from vdiffsr_jax.training.config import parse_train

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.py"


def products(program: ClosedJaxpr | Jaxpr) -> Iterator[tuple[str, Any]]:
    """(where it comes from, its precision) of every product or convolution of float32 operands."""
    for eqn in (program.jaxpr if isinstance(program, ClosedJaxpr) else program).eqns:
        if eqn.primitive.name in ("dot_general", "conv_general_dilated") and eqn.invars[0].aval.dtype == jnp.float32:
            frame = jax._src.source_info_util.summarize(eqn.source_info)
            yield frame, eqn.params["precision"]
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, ClosedJaxpr | Jaxpr):
                    yield from products(part)


def rounded(program: ClosedJaxpr) -> set[str]:
    found = list(products(program))
    assert len(found) > 20
    return {where for where, precision in found if precision not in (Precision.HIGHEST, (Precision.HIGHEST,) * 2)}


@pytest.fixture
def traced(monkeypatch) -> list[ClosedJaxpr]:
    """What the abstract programs count, before it is lowered."""
    seen: list[ClosedJaxpr] = []
    monkeypatch.setattr(abstract_programs, "count_flops", lambda program: seen.append(program) or 0)
    return seen


@pytest.mark.parametrize("name", ["vqgan", "distill"])
def test_a_train_step_in_float32_rounds_no_product(traced, tmp_path, name):
    settings = runs(read_config_file(SMOKE), str(tmp_path))[tmp_path / name]
    cfg, _ = with_assumed_weights(parse_train({**settings, "batch_size": 8}), tmp_path / "assumed")
    abstract_programs.train_program(cfg, jax.devices())
    assert not rounded(traced[0])


def test_sampling_in_float32_rounds_no_product(traced):
    abstract_programs.sampling_program(tiny_config(), jax.devices()[0], batch=1, dtype="float32")
    assert not rounded(traced[0])
