"""FLOPs by hand, loops and devices included, and against the compiler's own count of a step without loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tests.training.test_tasks import config
from vdiffsr_jax.ops import attention
from vdiffsr_jax.planning.abstract_programs import train_program
from vdiffsr_jax.training.flop_count import count_flops, recomputes

A = jnp.zeros((8, 32))
PRODUCT = 2 * 8 * 32 * 8  # of A @ A.T


def product(a: jax.Array) -> jax.Array:
    return a @ a.T


def looped(a: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda total, x: (total + product(x * a), None), jnp.zeros((8, 8)), jnp.arange(15.0))[0]


def remat(a: jax.Array) -> jax.Array:
    return jax.grad(lambda a: jnp.sin(jax.checkpoint(lambda a: jnp.tanh(product(a)) ** 2)(a)).sum())(a)


def shared(a: jax.Array) -> jax.Array:
    mesh = Mesh(np.array(jax.devices()[:8]), ("tiles",))
    whole = lambda part, a: part @ a.T  # noqa: E731
    return jax.shard_map(whole, mesh=mesh, in_specs=(P("tiles"), P()), out_specs=P("tiles"))(a, a)


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (product, 1),
        (jax.jit(product), 1),
        (looped, 15),
        (lambda a: jax.lax.cond(a[0, 0] > 0, looped, product, a), 15),
        (remat, 4),  # once forward, once again, once for each of the two sides that share `a`
        (shared, 1),
    ],
    ids=["product", "jit", "scan", "cond", "remat", "shard_map"],
)
def test_products_by_hand(function, products):
    assert count_flops(jax.jit(function).trace(A).jaxpr) == products * PRODUCT


@pytest.fixture(params=["in blocks", "cudnn"])
def backend(request, monkeypatch) -> None:
    """How attention of 64 queries and 96 keys in bfloat16 is computed."""
    jax.clear_caches()
    if request.param == "in blocks":
        monkeypatch.setattr(attention, "MAX_LOGITS", 64 * 96)
    else:
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91300)
        monkeypatch.setattr(attention, "cudnn_compiles", lambda *_: True)
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("backend")
def test_attention_is_counted_whoever_computes_it():
    """Two products forward; four backward and the logits once again, which the model itself does not need."""
    q, k = (jax.ShapeDtypeStruct((2, tokens, 3, 8), jnp.bfloat16) for tokens in (64, 96))
    product = 2 * 2 * 3 * 64 * 96 * 8

    def forward(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.sin(attention.attention(q, k, v).astype(jnp.float32)).sum()

    assert count_flops(jax.jit(forward).trace(q, k, k).jaxpr) == 2 * product
    done = jax.jit(jax.grad(forward, (0, 1, 2))).trace(q, k, k)
    assert recomputes(done.jaxpr)
    assert count_flops(done.jaxpr) == 7 * product
    with attention.counting():
        needed = jax.jit(jax.grad(lambda *qkv: forward(*qkv), (0, 1, 2))).trace(q, k, k)
    assert not recomputes(needed.jaxpr)
    assert count_flops(needed.jaxpr) == 6 * product


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_and_its_gradients_are_three_times_the_work(stride, groups):
    image, kernel = jnp.zeros((2, 16, 16, 8)), jnp.zeros((3, 3, 8 // groups, 12))

    def convolve(image: jax.Array, kernel: jax.Array) -> jax.Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image, kernel, (stride, stride), "SAME", dimension_numbers=layout, feature_group_count=groups
        )

    def both(image: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.grad(lambda *xs: jnp.sin(convolve(*xs)).sum(), (0, 1))(image, kernel)

    once = 2 * (2 * (16 // stride) ** 2 * 12) * (9 * 8 // groups)
    assert count_flops(jax.jit(convolve).trace(image, kernel).jaxpr) == once
    assert count_flops(jax.jit(both).trace(image, kernel).jaxpr) == 3 * once


def test_a_step_without_loops_is_what_the_compiler_counts(chain_configs):
    program = train_program(config(chain_configs, "teacher", "mesh.cpu_devices=0"), jax.devices()[:1])
    cost = program.lowered.compile().cost_analysis()
    assert program.flops == pytest.approx(cost["flops"], rel=0.05)
