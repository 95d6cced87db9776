"""docs/api.md does what it says, on a smaller network with the bundled model's shapes, as compiling takes the time."""

from __future__ import annotations

import dataclasses
import doctest
from pathlib import Path

import vdiffsr_jax
from tests.sampling.conftest import random_items
from vdiffsr_jax.config import SwinUNetConfig, VDiffSRConfig
from vdiffsr_jax.sampling.bundled import BUNDLED_MODEL
from vdiffsr_jax.sampling.model import Model
from vdiffsr_jax.weights import checkpoint

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def smaller(config: VDiffSRConfig) -> VDiffSRConfig:
    """One level, one block and one end of everything; tile, latents and the prior's maps keep their shapes."""
    assert config.prior is not None
    unet = SwinUNetConfig(
        image_size=config.denoiser.image_size,
        in_channels=config.denoiser.in_channels,
        out_channels=config.denoiser.out_channels,
        model_channels=32,
        channel_mult=(1,),
        num_res_blocks=(1,),
        attention_resolutions=(),
        swin_depth=1,
        swin_embed_dim=32,
    )
    var = dataclasses.replace(config.prior.var, depth=1, width=32, num_heads=2)
    prior = dataclasses.replace(config.prior, var=var, taps=(), dim=32)
    return dataclasses.replace(config, denoiser=unet, prior=prior, sharp=None)


def test_the_page_of_the_api_runs(tmp_path, monkeypatch):
    config = smaller(checkpoint.read_config(BUNDLED_MODEL)[1])
    checkpoint.save_model(tmp_path / "small", random_items(config), kind="vdiffsr", config=config)
    monkeypatch.setattr(vdiffsr_jax, "load", lambda **options: Model.load(tmp_path / "small", **options))
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 12
    assert not found.failed


def test_without_a_name_the_model_in_the_box_is_loaded():
    model = vdiffsr_jax.load(devices=1)
    assert isinstance(model, Model)
    assert (model.tile, model.config.scale) == (64, 4)
