"""The table is strict; arrays and batches lie where it says."""

from __future__ import annotations

import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from vdiffsr_jax.config import ConfigError, PriorConfig, VARConfig, VARTokenizerConfig, VDiffSRConfig, VQGANConfig
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.patch_gan import PatchGAN
from vdiffsr_jax.models.perceptual import BACKBONES
from vdiffsr_jax.training import sharding
from vdiffsr_jax.training.config import MeshConfig
from vdiffsr_jax.training.sharding import (
    TABLE,
    Layout,
    ShardingError,
    device_grid,
    make_mesh,
    match,
)


def all_names() -> set[str]:
    """Every parameter that any task trains or freezes."""
    every = [
        ("vqgan", VQGANConfig()),
        ("var_tokenizer", VARTokenizerConfig()),
        ("var", VARConfig(depth=2)),
        ("var", VARConfig(depth=2, shared_aln=True, folded=True)),
        ("var", VARConfig(depth=2, shared_aln=True)),
        ("vdiffsr", VDiffSRConfig(prior=PriorConfig(var=VARConfig(depth=2)))),
        *(("perceptual", kinds.PerceptualConfig(backbone)) for backbone in (*BACKBONES, "dists")),
    ]
    names = {f"patch_gan/{name}" for name in flatten(build(PatchGAN).abstract)}
    for kind, config in every:
        for item, network in kinds.networks(kind, config).items():
            names |= {f"{item}/{name}" for name in flatten(network.abstract)}
    return names


def test_every_parameter_has_a_rule_and_every_rule_a_parameter():
    assert {match(name) for name in all_names()} == set(TABLE)


def test_strictness():
    with pytest.raises(ShardingError, match="no sharding rule matches the parameter 'vqgan/decoder/thing'"):
        match("vqgan/decoder/thing")


def test_first_rule_counts(monkeypatch):
    monkeypatch.setattr(sharding, "TABLE", (sharding.ShardRule(r"a/kernel", (0,)), *TABLE))
    assert match("a/kernel").axes == (0,)
    assert match("b/kernel").axes == (-1, -2)


@pytest.mark.parametrize(
    ("name", "shape", "spec"),
    [
        ("x/conv/kernel", (3, 3, 8, 16), (None, None, None, "fsdp")),
        ("x/conv/kernel", (3, 3, 8, 3), (None, None, "fsdp", None)),
        ("x/conv/kernel", (3, 3, 3, 3), ()),
        ("x/conv/bias", (64,), ()),
        ("x/codebook", (8, 3), ("fsdp", None)),
        ("x/fc1/lora_a", (8, 2), ("fsdp", None)),
        ("x/fc1/lora_b", (2, 8), (None, "fsdp")),
    ],
)
def test_axes(name, shape, spec):
    cfg = MeshConfig(fsdp=4, min_shard_size=1)
    layout = Layout(make_mesh(cfg), cfg)
    assert layout.parameter(name, jax.ShapeDtypeStruct(shape, np.float32)).spec == PartitionSpec(*spec)


def test_small_arrays_and_frozen_networks_may_stay_whole():
    cfg = MeshConfig(fsdp=8, min_shard_size=1000, shard_frozen=False)
    layout = Layout(make_mesh(cfg), cfg)
    large = jax.ShapeDtypeStruct((32, 32), np.float32)
    assert layout.parameter("a/kernel", large).spec == PartitionSpec(None, "fsdp")
    assert layout.frozen("a/kernel", large).spec == PartitionSpec()
    assert layout.parameter("a/kernel", jax.ShapeDtypeStruct((8, 8), np.float32)).spec == PartitionSpec()


def test_batches_are_split_over_all_devices():
    cfg = MeshConfig(fsdp=2)
    layout = Layout(make_mesh(cfg), cfg)
    put = layout.put_batch({"hr": np.arange(16.0).reshape(16, 1)})["hr"]
    assert {shard.data.shape for shard in put.addressable_shards} == {(2, 1)}
    np.testing.assert_array_equal(put, np.arange(16.0).reshape(16, 1))


def test_mesh_refuses_what_does_not_fit():
    with pytest.raises(ConfigError, match="does not use the 8 devices here"):
        make_mesh(MeshConfig(fsdp=3))
    with pytest.raises(ConfigError, match=r"mesh\.data=2 x mesh\.fsdp=2 does not use the 8 devices"):
        make_mesh(MeshConfig(data=2, fsdp=2))


def test_slices_are_replicas():
    """Two slices of four chips, listed in turn: fsdp stays inside a slice, `data` goes over one and then the other."""
    chips = [
        types.SimpleNamespace(id=i, slice_index=i % 2, platform="gpu", device_kind="chip", process_index=i)
        for i in range(8)
    ]
    grid = device_grid(chips, data=4, fsdp=2)  # type: ignore[arg-type]
    assert [[chip.slice_index for chip in row] for row in grid] == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert sorted(chip.id for chip in grid.flat) == list(range(8))
    with pytest.raises(ConfigError, match="must divide the 4 devices of each of the 2 slices"):
        device_grid(chips, data=1, fsdp=8)  # type: ignore[arg-type]
