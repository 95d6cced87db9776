"""A tiny model without a prior, random perceptual networks, and a folder of pictures, one of them broken."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from PIL import Image

from tests.pictures import dead_leaves
from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights import checkpoint


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluated") / "tiny"
    config = tiny_config(prior=False, num_steps=4)
    checkpoint.save_model(path, random_items(config), kind="vdiffsr", config=config)
    return path


@pytest.fixture(scope="session")
def perceptual(tmp_path_factory):
    return _perceptual(tmp_path_factory.mktemp("perceptual") / "alexnet", "alexnet")


@pytest.fixture(scope="session")
def lite0(tmp_path_factory):
    return _perceptual(tmp_path_factory.mktemp("perceptual") / "lite0", "efficientnet_lite0")


def _perceptual(path, backbone):
    config = kinds.PerceptualConfig(backbone)
    abstract = kinds.network("perceptual", "perceptual", config).abstract
    rng = np.random.default_rng(0)

    def draw(leaf):
        if len(leaf.shape) < 2:
            return np.ones(leaf.shape, np.float32)
        return (rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))).astype(np.float32)

    checkpoint.save_model(path, {"perceptual": jax.tree.map(draw, abstract)}, kind="perceptual", config=config)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(("a.png", "b.jpg")):
        Image.fromarray(dead_leaves(seed, 90, 100)).save(folder / name)
    return folder
