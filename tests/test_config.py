"""Mappings become frozen dataclasses, strictly, and back."""

from __future__ import annotations

import pytest

from vdiffsr_jax.config import (
    ConfigError,
    PriorConfig,
    SwinUNetConfig,
    VARConfig,
    VDiffSRConfig,
    parse,
    to_dict,
)


def test_round_trip_of_the_defaults():
    config = VDiffSRConfig()
    assert parse(VDiffSRConfig, to_dict(config)) == config
    plain = VDiffSRConfig(prior=None)
    assert parse(VDiffSRConfig, to_dict(plain)) == plain


def test_published_numbers_follow_from_the_defaults():
    config = VDiffSRConfig()
    assert config.tile_size == 64
    assert config.prior.var.num_tokens == 680
    assert config.prior.tokenizer.window_size == 256
    assert config.prior.tap_layers == (4, 8, 12, 16)
    assert PriorConfig(var=VARConfig(depth=30, width=1920, num_heads=30)).tap_layers == (8, 15, 22, 30)


def test_lists_become_tuples_and_ints_floats():
    config = parse(SwinUNetConfig, {"channel_mult": [1, 2, 2, 4], "mlp_ratio": 2})
    assert config.channel_mult == (1, 2, 2, 4)
    assert isinstance(config.mlp_ratio, float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"denoiser": {"swin_dpth": 2}}, "denoiser.swin_dpth.*did you mean 'swin_depth'"),
        ({"denoiser": {"window_size": "8"}}, "denoiser.window_size='8' must be of type int"),
        ({"denoiser": {"window_size": True}}, "must be of type int"),
        ({"denoiser": {"channel_mult": 3}}, "denoiser.channel_mult=3 must be a list"),
        ({"denoiser": 3}, "must be a mapping"),
        ({"denoiser": {"num_res_blocks": [1]}}, "one entry per level"),
        ({"denoiser": {"model_channels": 20}}, "multiple of num_groups=32"),
        ({"denoiser": {"image_size": 32}}, "VAR windows are never resized"),
        ({"scale": 2}, "LR must have latent size"),
        ({"cspa": {"dim": 100}}, "must divide by cspa.head_dim"),
        ({"prior": {"train": "some"}}, "must be one of none, adapter, lora, full"),
        ({"prior": {"taps": [4, 4]}}, "must increase"),
        ({"prior": {"taps": [4, 17]}}, "must lie in 1..var.depth=16"),
        ({"prior": {"var": {"vocab_size": 5}}}, "VAR and its tokenizer disagree"),
        ({"schedule": {"num_steps": 1}}, "at least 2"),
    ],
)
def test_each_refusal_names_the_field(values, message):
    with pytest.raises(ConfigError, match=message):
        parse(VDiffSRConfig, values)
