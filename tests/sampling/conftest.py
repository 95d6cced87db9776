"""A whole model, tiny: 32 channels, tiles of 16, a small VAR, random numbers; once with its prior and once without."""

from __future__ import annotations

import numpy as np
import pytest

from vdiffsr_jax import Upscaler
from vdiffsr_jax.config import (
    CSPAConfig,
    PriorConfig,
    ScheduleConfig,
    SwinUNetConfig,
    VARConfig,
    VARTokenizerConfig,
    VDiffSRConfig,
    VQGANConfig,
)
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.weights import checkpoint

PATCH_NUMS = (1, 2, 4)


def tiny_config(*, prior: bool = True, num_steps: int = 15) -> VDiffSRConfig:
    return VDiffSRConfig(
        first_stage=VQGANConfig(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, n_embed=64),
        denoiser=SwinUNetConfig(
            image_size=16,
            model_channels=32,
            channel_mult=(1, 1),
            num_res_blocks=(1, 1),
            attention_resolutions=(8,),
            num_head_channels=16,
            swin_embed_dim=32,
            swin_depth=1,
        ),
        schedule=ScheduleConfig(num_steps=num_steps),
        prior=PriorConfig(
            tokenizer=VARTokenizerConfig(
                vocab_size=64, z_channels=8, ch=32, ch_mult=(1, 1, 1, 1, 1), num_res_blocks=1, patch_nums=PATCH_NUMS
            ),
            var=VARConfig(
                depth=1, width=32, num_heads=2, num_classes=10, patch_nums=PATCH_NUMS, vocab_size=64, code_dim=8
            ),
            dim=32,
            lora_rank=2,
        )
        if prior
        else None,
        cspa=CSPAConfig(dim=32, head_dim=16),
    )


def random_items(config: VDiffSRConfig):
    """Parameters of trained size, none zero, or the prior would not matter. (A compiled init is slow.)"""
    rng = np.random.default_rng(0)

    def draw(name, leaf):
        value = rng.standard_normal(leaf.shape).astype(np.float32)
        if len(leaf.shape) < 2:
            return 0.02 * value + np.float32(name.endswith("scale"))
        return value / np.sqrt(np.prod(leaf.shape[:-1])).astype(np.float32)

    networks = kinds.networks("vdiffsr", config)
    return {
        item: unflatten({name: draw(name, leaf) for name, leaf in flatten(net.abstract).items()}, net.abstract)
        for item, net in networks.items()
    }


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Directory of the tiny model with its prior."""
    path = tmp_path_factory.mktemp("model") / "tiny"
    config = tiny_config()
    checkpoint.save_model(path, random_items(config), kind="vdiffsr", config=config)
    return path


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory):
    """Directory of the tiny model without a prior, on a schedule of four steps."""
    path = tmp_path_factory.mktemp("plain") / "tiny"
    config = tiny_config(prior=False, num_steps=4)
    checkpoint.save_model(path, random_items(config), kind="vdiffsr", config=config)
    return path


@pytest.fixture(scope="session")
def upscaler(model):
    """The tiny model with its prior, on eight devices; compiled once."""
    return Upscaler.load(model)


@pytest.fixture(scope="session")
def plain_upscaler(plain_model):
    """The tiny model without a prior, on one device; compiled once."""
    return Upscaler.load(plain_model, devices=1)


@pytest.fixture
def photo():
    """A smooth scene with edges, (50, 75, 3) uint8."""
    y, x = np.mgrid[:50, :75]
    scene = np.stack([128 + 90 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), 60 + 140 * ((x // 12 + y // 10) % 2)], -1)
    return scene.round().astype(np.uint8)
