"""Two ends of a model: exact at both, straight between them, and shared where latents are made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.config import ConfigError, SharpConfig
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.models.prior import fold_model

NETWORKS = ("denoiser", "first_stage", "pvar")


def moved(items, config):
    """The model trained on a little: everything moves that an end may have of its own."""
    rng = np.random.default_rng(1)
    result = dict(items)
    for network, params in items.items():
        own = fidelity.own_parts(network, params, config)
        flat = flatten(params) | {
            name: leaf + 0.01 * rng.standard_normal(leaf.shape).astype(np.float32) for name, leaf in own.items()
        }
        result[network] = unflatten(flat, params)
    return result


@pytest.fixture(scope="module")
def pair():
    """(faithful, sharp, configuration of each)."""
    items, config = fold_model(random_items(tiny_config()), tiny_config())
    items = {name: unflatten({k: np.asarray(v) for k, v in flatten(p).items()}, p) for name, p in items.items()}
    return items, moved(items, config), config


def joined(pair, **settings):
    faithful, sharp, config = pair
    config = dataclasses.replace(config, sharp=SharpConfig(networks=NETWORKS, **settings))
    return faithful | {"sharp": fidelity.difference(faithful, sharp, config)}, config


def names(items):
    return {f"{item}/{name}": leaf for item, params in items.items() for name, leaf in flatten(params).items()}


@pytest.mark.parametrize("exact", [False, True])
def test_both_ends_are_exact(pair, exact):
    items, config = joined(pair, exact=exact)
    (at_1, one_end), (at_0, _) = (fidelity.at(items, config, share) for share in (1.0, 0.0))
    assert one_end == pair[2]
    assert all(leaf is names(pair[0])[name] for name, leaf in names(at_1).items())
    end = {f"{n}/{name}": leaf for n, own in fidelity.sharp_end(items, config).items() for name, leaf in own.items()}
    for name, leaf in names(at_0).items():
        np.testing.assert_array_equal(leaf, end.get(name, names(pair[0])[name]), err_msg=name)
        if exact:
            np.testing.assert_array_equal(leaf, names(pair[1])[name], err_msg=name)
        else:  # half a step, of a seventh of the largest difference in an output channel
            apart = names(pair[1])[name] - names(pair[0])[name]
            largest = np.abs(apart).max(axis=tuple(range(apart.ndim - 1))) if apart.ndim > 1 else 0
            assert (np.abs(leaf - names(pair[1])[name]) <= largest / 14 + 1e-6).all(), name


def test_encoder_codebook_and_tokenizer_are_shared(pair):
    items, config = joined(pair)
    at_0, _ = fidelity.at(items, config, 0.0)
    same = {name for name, leaf in names(at_0).items() if np.array_equal(leaf, names(pair[0])[name])}
    assert same == {
        name
        for name in names(at_0)
        if name.startswith(("first_stage/encoder", "first_stage/quant_conv", "first_stage/codebook", "pvar/tokenizer"))
    }


def test_it_goes_straight_from_one_to_the_other(pair):
    """Nearer to the faithful end with every step, and as far from the sharp one as that leaves."""
    items, config = joined(pair, fidelity=0.25)
    ends = [names(fidelity.at(items, config, share)[0]) for share in (0.0, 1.0)]
    distances = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        made = names(fidelity.at(items, config, share)[0])
        distances.append([sum(float(np.abs(made[n] - end[n]).sum()) for n in made) for end in ends])
    to_sharp, to_faithful = np.transpose(distances)
    assert to_sharp[0] == to_faithful[-1] == 0
    np.testing.assert_allclose(to_sharp, to_sharp[-1] * np.linspace(0, 1, 5), rtol=1e-4)
    np.testing.assert_allclose(to_faithful, to_faithful[0] * np.linspace(1, 0, 5), rtol=1e-4)
    default = names(fidelity.at(items, config)[0])
    asked = names(fidelity.at(items, config, 0.25)[0])
    assert all(np.array_equal(default[name], asked[name]) for name in asked)


def test_odd_numbers_of_steps_come_back():
    steps = np.arange(-7, 8).astype(np.int8)
    packed = fidelity._two_in_a_byte(steps)
    assert packed.dtype == np.uint8
    assert len(packed) == 8
    np.testing.assert_array_equal(fidelity._from_bytes(packed)[:15], steps)


def test_what_is_refused(pair):
    with pytest.raises(ValueError, match=r"fidelity=0.5: this model is one student"):
        fidelity.at(pair[0], pair[2], 0.5)
    items, config = joined(pair)
    with pytest.raises(ValueError, match=r"fidelity=1.5 must lie in 0"):
        fidelity.at(items, config, 1.5)
    with pytest.raises(ConfigError, match="must be some of first_stage"):
        SharpConfig(networks=("encoder",))
    with pytest.raises(ConfigError, match="in inference form"):
        dataclasses.replace(tiny_config(), sharp=SharpConfig(networks=("pvar",)))
