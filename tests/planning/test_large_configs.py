"""The configurations that no machine of ours can hold: their networks, their sharding and their loss, as shapes."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.settings import with_settings
from vdiffsr_jax.training.sharding import Layout, make_mesh


@pytest.mark.parametrize(
    ("name", "var", "tokens", "frozen_gib"),
    [("vdiffsr_x4_d30", 1.995e9, 680, 0.68), ("vdiffsr_x4_512", 2.334e9, 2240, 0.61)],
)
def test_it_builds(tmp_path, name, var, tokens, frozen_gib):
    settings = ["mesh.data=1", "batch_size=8"]
    cfg, assumed = with_assumed_weights(parse_train(with_settings(read_config_file(name), settings)), tmp_path)
    assert len(assumed) == 5, "nothing of it is here"
    task = tasks.make(cfg)
    flat = task.abstract()
    trunk = [leaf for path, leaf in flat.items() if path.startswith("pvar/var/") and not task.trainable(path)]
    assert sum(leaf.size for leaf in trunk) == pytest.approx(var, rel=1e-3)
    assert cfg.model.prior.var.num_tokens == tokens
    layout = Layout(make_mesh(cfg.mesh), cfg.mesh)
    shards = [
        math.prod(layout.frozen(path, leaf).shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for path, leaf in flat.items() if not task.trainable(path)
    ]  # fmt: skip
    assert sum(shards) / 2**30 == pytest.approx(frozen_gib, rel=0.01), "of eight devices, norms in float32"
    side = cfg.data.crop_size
    batch = {"hr": jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32),
             "lr": jax.ShapeDtypeStruct((1, side // 4, side // 4, 3), jnp.float32)}  # fmt: skip
    loss, parts = jax.eval_shape(task.loss, flat, batch, jax.random.key(0), jnp.int32(0))
    assert loss.shape == ()
    assert parts.keys() >= {"distil", "inverse", "gt", "perceptual"}
