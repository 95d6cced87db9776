import jax
import jax.numpy as jnp
import numpy as np

from tests.models.filled import filled
from vdiffsr_jax.config import CoGUConfig
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.cogu import CoGU
from vdiffsr_jax.ops.norm import group_norm, layer_norm
from vdiffsr_jax.ops.resize import bilinear

NETWORK = build(CoGU, 64, 4, 16, 24, CoGUConfig(max_dim=32), num_groups=32)
KEYS = jax.random.split(jax.random.key(0), 3)
H = jax.random.normal(KEYS[0], (2, 4, 4, 64))
P = jax.random.normal(KEYS[1], (2, 2, 2, 16))
C = jax.random.normal(KEYS[2], (2, 24))


def apply(params):
    return NETWORK.apply(params, H, NETWORK.method(CoGU.prepare)(params, P), C)


def test_unit_is_its_equation():
    params = filled(NETWORK.abstract)
    w = {name: np.asarray(value) for name, value in flatten(params).items()}
    gn = np.asarray(group_norm(H, w["norm_h/scale"], w["norm_h/bias"], num_groups=32, eps=1e-5))
    ln = np.asarray(layer_norm(bilinear(P, (4, 4)), eps=1e-5)) * w["norm_p/scale"][None, None, None]
    ln = ln + w["norm_p/bias"][None, None, None]
    u = gn @ w["w_h/kernel"] + w["w_h/bias"][None, None, None] + ln @ w["w_p/kernel"]
    padded = np.pad(u, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [w["mix/kernel"][i, j, 0] * padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    v = u + sum(taps) + w["mix/bias"]
    c = np.asarray(jax.nn.silu(C)) @ w["w_c/kernel"] + w["w_c/bias"]
    b, gamma, beta = np.split(c[:, None, None, :], 3, axis=-1)
    gate = 1 / (1 + np.exp(-(v @ w["w_g/kernel"] + b)))
    modulated = (1 + gamma) * (v @ w["w_v/kernel"] + w["w_v/bias"]) + beta
    want = np.asarray(H) + (gate * modulated) @ w["w_o/kernel"] + w["w_o/bias"]
    np.testing.assert_allclose(jax.jit(apply)(params), want, rtol=0, atol=2e-5)


def test_fresh_unit_is_the_identity_and_its_output_matrix_learns_first():
    params = NETWORK.init(KEYS[0])
    np.testing.assert_array_equal(jax.jit(apply)(params), H)
    grads = jax.jit(jax.grad(lambda p: jnp.square(apply(p)).mean()))(params)
    assert float(jnp.abs(grads["w_o"]["kernel"]).max()) > 1e-4
    assert not np.any(grads["w_h"]["kernel"])
    assert not np.any(grads["w_c"]["kernel"])
