"""Perceptual distances: numbers computed by torch (tests/golden/perceptual/make.py), and what must hold for any."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conversion.in_memory import convert
from tests.golden.perceptual.recipe import weight
from vdiffsr_jax.conversion.perceptual import TABLES, heads_of, infer_backbone
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import build, flatten, unflatten
from vdiffsr_jax.models.perceptual import BACKBONES, PerceptualDistance

IO = np.load(Path(__file__).parents[1] / "golden" / "perceptual" / "io.npz")
VGG16 = dict(zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), range(13), strict=True))
ALEXNET = dict(zip((0, 3, 6, 8, 10), range(5), strict=True))


def torch_shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """The originals' names and shapes, derived from our tree."""
    abstract = flatten(build(PerceptualDistance, backbone).abstract)
    shapes = {}
    if backbone == "efficientnet_lite0":
        parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
        parts["project"] = ("_project_conv", "_bn2")
        stats = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
        for path, leaf in abstract.items():
            keys = path.split("/")[1:]
            prefix = "" if keys[0] == "stem" else f"_blocks.{keys[1]}."
            conv, norm = ("_conv_stem", "_bn0") if keys[0] == "stem" else parts[keys[2]]
            if keys[-1] == "kernel":
                h, w, c, o = leaf.shape
                shapes[f"{prefix}{conv}.weight"] = (o, c, h, w)
            else:
                shapes[f"{prefix}{norm}.{stats[keys[-1]]}"] = leaf.shape
                shapes[f"{prefix}{norm}.num_batches_tracked"] = ()
        head = {"_conv_head.weight": (1280, 320, 1, 1), "_bn1.running_var": (1280,), "_bn1.num_batches_tracked": ()}
        return shapes | head | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    positions = VGG16 if backbone == "vgg16" else ALEXNET
    for position, i in positions.items():
        h, w, c, o = abstract[f"backbone/convs/{i}/kernel"].shape
        shapes[f"features.{position}.weight"] = (o, c, h, w)
        shapes[f"features.{position}.bias"] = (o,)
    for i in range(5):
        shapes[f"lin{i}.model.1.weight"] = (1, *abstract[f"heads/{i}"].shape, 1, 1)
    return shapes


@pytest.fixture(scope="module", params=BACKBONES)
def network(request):
    net = build(PerceptualDistance, request.param)
    shapes = torch_shapes(request.param)
    flat = convert(TABLES[request.param], shapes, lambda n: weight(n, shapes[n]), flatten(net.abstract), request.param)
    return request.param, net, unflatten(flat, net.abstract)


def test_features_and_distance_match_the_reference(network):
    name, net, params = network
    a, b = (jnp.asarray(IO[k].transpose(0, 2, 3, 1)) for k in "ab")
    raw = net.method(PerceptualDistance.raw_features)(params, a)
    for i, feature in enumerate(raw):
        want = IO[f"{name}_feature_{i}"]
        # measured: at most 3e-6 of the standard deviation
        assert np.abs(np.asarray(feature.mean(axis=(1, 2))) - want).max() <= 5e-5 * want.std()
    np.testing.assert_allclose(net.apply(params, a, b), IO[f"{name}_distance"], rtol=2e-5)


def test_dists_matches_the_reference():
    net = kinds.network("perceptual", "perceptual", kinds.PerceptualConfig("dists"))
    shapes = torch_shapes("vgg16") | {"alpha": (1, 1475, 1, 1), "beta": (1, 1475, 1, 1)}
    flat = convert(TABLES["dists"], shapes, lambda n: weight(n, shapes[n]), flatten(net.abstract), "dists")
    params = unflatten(flat, net.abstract)
    a, b = (jnp.asarray(IO[k].transpose(0, 2, 3, 1)) for k in "ab")
    np.testing.assert_allclose(net.apply(params, a, b), IO["dists_distance"], rtol=2e-5)
    np.testing.assert_allclose(net.apply(params, a, a), 0.0, atol=1e-6)
    gradient = jax.grad(lambda x: net.apply(params, x, a).sum())(jnp.zeros_like(a))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_equal_images_have_no_distance_and_finite_gradients(network):
    _, net, params = network
    a = jnp.asarray(IO["a"].transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(net.apply(params, a, a), 0.0)
    flat = jnp.zeros_like(a)
    gradient = jax.grad(lambda x: net.apply(params, x, a).sum())(flat)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_backbones_are_told_apart_by_name_and_shape():
    for backbone in BACKBONES:
        assert infer_backbone(torch_shapes(backbone)) == backbone
    assert infer_backbone(torch_shapes("vgg16") | {"alpha": (1, 1475, 1, 1), "beta": (1, 1475, 1, 1)}) == "dists"
    assert heads_of(["lin0.model.1.weight", "lin4.model.1.weight"]) == "LPIPS"
    assert heads_of(["alpha", "beta"]) == "DISTS"
    assert heads_of(["lin0.model.1.weight", "features.0.weight"]) is None
    with pytest.raises(ConversionError, match="vgg16 or alexnet"):
        infer_backbone({"conv1.weight": (64, 3, 7, 7)})


def test_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="resnet50"):
        build(PerceptualDistance, "resnet50")
