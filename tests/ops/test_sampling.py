"""Which tokens may be drawn, and how often."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops.sampling import keep_top_k, keep_top_p, sample

PROBABILITIES = jnp.array([[0.1, 0.5, 0.25, 0.15]])


def kept(logits: jax.Array) -> list[int]:
    return np.flatnonzero(np.isfinite(logits[0])).tolist()


@pytest.mark.parametrize(("k", "expected"), [(0, [0, 1, 2, 3]), (1, [1]), (3, [1, 2, 3])])
def test_top_k(k: int, expected: list[int]):
    assert kept(keep_top_k(jnp.log(PROBABILITIES), k)) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.0, [0, 1, 2, 3]), (0.4, [1]), (0.6, [1, 2]), (0.8, [1, 2, 3])])
def test_top_p_is_the_smallest_set_that_exceeds_p(p: float, expected: list[int]):
    assert kept(keep_top_p(jnp.log(PROBABILITIES), p)) == expected


def test_sample_follows_the_restricted_distribution():
    logits = jnp.broadcast_to(jnp.log(PROBABILITIES), (20_000, 4))
    drawn = sample(jax.random.key(0), logits, top_k=3, top_p=0.6)
    frequency = np.bincount(drawn, minlength=4) / len(drawn)
    np.testing.assert_allclose(frequency, [0, 2 / 3, 1 / 3, 0], atol=0.02)  # five standard deviations
    assert drawn.dtype == jnp.int32
