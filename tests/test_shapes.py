"""The shapes and dtypes that signatures name are what functions take and return, in every room that computes."""

from __future__ import annotations

import importlib
import sys

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError, install_import_hook

from tests.sampling.conftest import tiny_config

ROOMS = tuple(f"vdiffsr_jax.{room}" for room in ("ops", "models", "diffusion", "sampling"))


@pytest.fixture(scope="module")
def checked():
    """Modules of ROOMS by name, imported apart from everybody's, their signatures checked at every call."""
    apart = [name for name in sys.modules if name.startswith(ROOMS)]
    shared = {name: sys.modules.pop(name) for name in apart}
    with install_import_hook(ROOMS, "beartype.beartype"):
        yield lambda name: importlib.import_module(f"vdiffsr_jax.{name}")
    for name in [name for name in sys.modules if name.startswith(ROOMS)]:
        del sys.modules[name]
    sys.modules.update(shared)


def of(*shape: int, dtype: object = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


KEY = jax.eval_shape(lambda: jax.random.key(0))


@pytest.fixture(scope="module", params=[jnp.float32, jnp.bfloat16])
def model(request, checked):
    """(The tiny model with its prior, its parameters as shapes); nothing is compiled here."""
    made = checked("models.assembled").assemble(tiny_config(), dtype=request.param)
    return made, {name: network.abstract for name, network in made.networks.items()}


def test_named_axes_of_ops_agree(checked):
    x = jnp.ones((2, 8, 8, 6))
    y = checked("ops.conv").upsample2x_conv2d(x, jnp.ones((3, 3, 6, 4)), jnp.zeros(4))
    assert y.shape == (2, 16, 16, 4)
    assert checked("ops.shuffle").pixels_to_channels(x, 2).shape == (2, 4, 4, 24)
    assert checked("ops.resize").bicubic(x, (4, 3)).shape == (2, 4, 3, 6)
    window = checked("ops.window")
    bias = window.relative_position_bias(jnp.ones((49, 3)), 4)
    assert window.window_attention(x, x, x, bias, window=4, mask=window.shift_mask(8, 8, 4, 2)).shape == x.shape


@pytest.mark.parametrize(("steps", "method"), [(1, "ancestral"), (4, "ancestral"), (15, "deterministic")])
def test_the_whole_way_of_a_tile(checked, model, steps: int, method: str):
    def run(items, lr, eps):
        upscale = checked("sampling.tile_program").upscale_tiles
        return upscale(model[0], items, lr, None, eps, steps=steps, method=method)

    fields = checked("sampling.tile_program").noise_fields(steps, method)
    assert jax.eval_shape(run, model[1], of(2, 16, 16, 3), of(2, fields, 16, 16, 3)).shape == (2, 64, 64, 3)


def test_what_the_losses_see(checked, model):
    assembled, items = model
    losses, schedule = checked("diffusion.losses"), checked("diffusion.schedule").make(assembled.config.schedule)

    def run(items, lr, z, key):
        denoise = assembled.denoiser(items, lr)
        t = losses.uniform_t(key, 2, schedule)
        terms, _ = losses.student_terms(denoise, schedule, z, z, z)
        return losses.teacher_loss(denoise, schedule, z, z, t, z), losses.total(terms, dict.fromkeys(terms, 1.0))

    for loss in jax.eval_shape(run, items, of(2, 16, 16, 3), of(2, 16, 16, 3), KEY):
        assert loss.shape == (2,)


def test_where_attention_looks(model):
    assembled, items = model
    pyramid = jax.eval_shape(assembled.pyramid, items, of(2, 64, 64, 3))
    tile, t, queries = of(2, 16, 16, 3), of(2, dtype=jnp.int32), of(5, 2, dtype=jnp.int32)
    readings = jax.eval_shape(assembled.attention, items, tile, t, tile, pyramid, queries)
    assert readings[0].same.shape == (2, 5, 2, 4, 4)


def test_what_trains_autoencoders_and_var(checked):
    prior, build = tiny_config().prior, checked("models.build").build
    image = of(2, 64, 64, 3)
    vqgan = build(checked("models.vqgan").VQGAN, tiny_config().first_stage)
    assert jax.eval_shape(vqgan.apply, vqgan.abstract, image).image.shape == image.shape
    tokenizer = build(checked("models.var_tokenizer").VARTokenizer, prior.tokenizer)
    assert jax.eval_shape(tokenizer.apply, tokenizer.abstract, image).image.shape == image.shape
    var = build(checked("models.var").VAR, prior.var)
    label = of(2, dtype=jnp.int32)
    assert jax.eval_shape(var.apply, var.abstract, label, of(2, 20, 8)).shape == (2, 21, 64)
    generate = checked("models.var_generate").make_generate(var, tokenizer)
    assert jax.eval_shape(generate, var.abstract, tokenizer.abstract, label, KEY)[1].shape == image.shape


@pytest.mark.parametrize(
    ("module", "name", "args"),
    [("perceptual", "PerceptualDistance", ["vgg16"]), ("perceptual", "PerceptualDistance", ["efficientnet_lite0"]),
     ("dists", "DISTS", [])],
)  # fmt: skip
def test_distances(checked, module: str, name: str, args: list[str]):
    network = checked("models.build").build(getattr(checked(f"models.{module}"), name), *args)
    assert jax.eval_shape(network.apply, network.abstract, of(2, 64, 64, 3), of(2, 64, 64, 3)).shape == (2,)


def test_marks_and_discriminators(checked):
    build, image = checked("models.build").build, of(2, 64, 96, 3)
    for module, name in (("musiq", "MUSIQ"), ("clip_iqa", "CLIPIQA")):
        found = checked(f"models.{module}")
        network = build(getattr(found, name), getattr(found, f"{name}Config")())
        assert jax.eval_shape(network.apply, network.abstract, image).shape == (2,)
    gans = checked("models.patch_gan")
    pixels, maps = build(gans.PatchGAN), build(gans.FeatureGAN, (8, 16))
    assert jax.eval_shape(pixels.apply, pixels.abstract, image).shape[-1] == 1
    assert jax.eval_shape(maps.apply, maps.abstract, [of(2, 8, 8, 8), of(2, 4, 4, 16)]).shape == (2, 80)


def test_a_wrong_shape_is_refused(checked, model):
    x, kernel = jnp.ones((2, 8, 8, 6)), jnp.ones((3, 3, 6, 4))
    with pytest.raises(TypeCheckError, match="bias"):
        checked("ops.conv").upsample2x_conv2d(x, kernel, jnp.zeros(5))
    q = jnp.ones((2, 5, 3, 4))
    with pytest.raises(TypeCheckError, match="'v'"):
        checked("ops.attention").attention(q, q, q[:, :4])
    with pytest.raises(TypeCheckError, match="indices"):
        checked("ops.quantize").codebook_usage(jnp.ones(3), 4)
    with pytest.raises(TypeCheckError, match="noise"):
        checked("diffusion.resshift").q_sample(x, x, 0.5, x[:1], kappa=2.0)
    assembled, items = model
    tile, t = of(2, 16, 16, 3), of(3, dtype=jnp.int32)
    with pytest.raises(TypeCheckError, match="'t'"):
        jax.eval_shape(assembled.denoise, items, tile, t, tile, None)
    with pytest.raises(TypeCheckError, match="'eps'"):
        checked("sampling.tile_program").upscale_tiles(
            assembled, items, x[..., :3], None, jnp.ones((2, 1, 8, 9, 3)), steps=1, method="ancestral"
        )
