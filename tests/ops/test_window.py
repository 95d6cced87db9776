import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.ops.window import relative_position_bias, relative_position_index, shift_mask, window_attention


def test_shift_mask_touches_only_the_bottom_windows_and_splits_their_columns():
    mask = shift_mask(8, 12, window=4, shift=1)
    assert mask.shape == (6, 16, 16)
    assert not mask[:3].any()
    past = np.tile([False, False, False, True], 4)
    for window in mask[3:]:
        np.testing.assert_array_equal(window, np.where(past[:, None] == past[None, :], 0.0, -100.0))


def test_relative_position_index_by_hand():
    index = relative_position_index(2)
    # key right of the query: dx = -1, dy = 0 -> row 1 * 3 + 0; key below: dy = -1, dx = 0 -> row 0 * 3 + 1
    assert (index[0, 0], index[0, 1], index[0, 2], index[3, 0]) == (4, 3, 1, 8)


def test_window_attention_equals_attention_window_by_window():
    rng = np.random.default_rng(0)
    heads, d, window = 2, 3, 2
    q, k, v = (jnp.asarray(rng.normal(size=(2, 4, 6, heads * d)), jnp.float32) for _ in range(3))
    table = jnp.asarray(rng.normal(size=((2 * window - 1) ** 2, heads)), jnp.float32)
    mask = rng.choice([0.0, -100.0], size=(6, 4, 4)).astype(np.float32) * (1 - np.eye(4, dtype=np.float32))
    got = window_attention(q, k, v, relative_position_bias(table, window), window=window, mask=mask)
    for n, (row, col) in enumerate((r, c) for r in range(2) for c in range(3)):
        here = (slice(None), slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2))
        for head in range(heads):
            part = (slice(head * d, (head + 1) * d),)
            a, b, c = (np.asarray(x[here])[..., part[0]].reshape(2, 4, d) for x in (q, k, v))
            bias = np.asarray(table)[relative_position_index(window), head] + mask[n]
            weights = jax.nn.softmax(jnp.asarray(np.einsum("bnd,bmd->bnm", a, b) * d**-0.5 + bias[None]), axis=-1)
            want = np.einsum("bnm,bmd->bnd", np.asarray(weights), c).reshape(2, 2, 2, d)
            np.testing.assert_allclose(np.asarray(got[here])[..., part[0]], want, atol=1e-5)


def test_a_map_that_does_not_divide_is_refused():
    x = jnp.zeros((1, 6, 8, 4))
    with pytest.raises(ValueError, match="6x8 does not divide into windows of 4x4"):
        window_attention(x, x, x, jnp.zeros((1, 16, 16)), window=4)
    with pytest.raises(ValueError, match="does not divide"):
        shift_mask(6, 8, 4, 2)
