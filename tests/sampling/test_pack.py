"""A packed model samples like the one it was made of, and is smaller."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from vdiffsr_jax import Upscaler
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.sampling import pack
from vdiffsr_jax.weights import checkpoint


def size(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_packed_model_samples_alike(model, upscaler, photo, tmp_path, capsys):
    whole, small = tmp_path / "whole", tmp_path / "small"
    assert pack.main([str(model), str(whole), "--dtype=float32"]) == 0
    assert checkpoint.read_config(whole)[1].prior.var.folded
    image = photo[:16, :16]
    difference = Upscaler.load(whole, devices=1)(image).astype(int) - upscaler(image).astype(int)
    assert np.abs(difference).max() <= 1
    assert pack.main([str(model), str(whole)]) == 2
    assert "exists" in capsys.readouterr().err

    assert pack.main([str(model), str(small)]) == 0
    assert size(small) < 0.6 * size(whole)
    exact, rounded = (flatten(checkpoint.load_model(d).items["denoiser"]) for d in (whole, small))
    for name, value in exact.items():
        np.testing.assert_array_equal(rounded[name], value.astype(jnp.bfloat16), err_msg=name)


def test_a_part_cannot_be_packed(tmp_path, capsys):
    assert pack.main([str(tmp_path), str(tmp_path / "x")]) == 2
    assert "is no checkpoint" in capsys.readouterr().err
