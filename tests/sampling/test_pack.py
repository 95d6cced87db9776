"""A packed model samples like the one it was made of, and is smaller."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import vdiffsr_jax
from tests.models.test_fidelity import moved
from vdiffsr_jax import Upscaler
from vdiffsr_jax.config import SharpConfig
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.conversion.to_torch import to_torch
from vdiffsr_jax.distribution import pack as hub
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.sampling import pack
from vdiffsr_jax.sampling.errors import SamplingError
from vdiffsr_jax.sampling.upscaler import Settings
from vdiffsr_jax.weights import checkpoint


def size(folder) -> int:
    """Bytes of the arrays, without what orbax writes about them."""
    return sum(file.stat().st_size for file in folder.rglob("d/*") if file.is_file())


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
    assert size(small) < 0.5 * size(whole), "half of the bits, and those compressed"
    exact, rounded = (flatten(checkpoint.load_model(d).items["denoiser"]) for d in (whole, small))
    for name, value in exact.items():
        np.testing.assert_array_equal(rounded[name], value.astype(jnp.bfloat16), err_msg=name)


def test_a_part_cannot_be_packed(tmp_path, capsys):
    assert pack.main([str(tmp_path), str(tmp_path / "x")]) == 2
    assert "is no checkpoint" in capsys.readouterr().err


@pytest.fixture(scope="module")
def ends(plain_model, tmp_path_factory):
    """(the model, one trained on from it, both packed in float32 as one, exactly)."""
    folder = tmp_path_factory.mktemp("ends")
    model = checkpoint.load_model(plain_model)
    checkpoint.save_model(folder / "sharp", moved(model.items, model.config), kind="vdiffsr", config=model.config)
    flags = ["--sharp", str(folder / "sharp"), "--fidelity=0.25", "--exact", "--dtype=float32"]
    assert pack.main([str(plain_model), str(folder / "both"), *flags]) == 0
    return plain_model, folder / "sharp", folder / "both"


def test_two_ends_sample_as_the_models_they_were_packed_from(ends, plain_upscaler, photo):
    _, sharp, both = ends
    image = photo[:16, :16]
    upscaler = vdiffsr_jax.load(both, devices=1)
    np.testing.assert_array_equal(upscaler.upscale(image, fidelity=1.0), plain_upscaler(image))
    at_0 = upscaler.upscale(image, fidelity=0.0)
    between, default = upscaler.upscale(image, fidelity=0.25), upscaler.upscale(image)
    np.testing.assert_array_equal(between, default)
    assert not np.array_equal(between, at_0)
    upscaler.replace(checkpoint.load_model(sharp).items | {"sharp": checkpoint.load_model(both).items["sharp"]})
    np.testing.assert_array_equal(upscaler.upscale(image, fidelity=1.0), at_0)
    with pytest.raises(SamplingError, match="fidelity=0\\.5: this model is one student"):
        plain_upscaler.check(Settings(fidelity=0.5))


def test_ends_between_the_two_models(ends, tmp_path):
    faithful, sharp, both = (str(d) for d in ends)
    flags = ["--sharp", sharp, "--between", "0.25", "0.75", "--exact", "--dtype=float32"]
    assert pack.main([faithful, str(tmp_path / "means"), *flags]) == 0
    whole, means = checkpoint.load_model(both), checkpoint.load_model(tmp_path / "means")
    for asked, share in ((0.0, 0.25), (0.5, 0.5), (1.0, 0.75)):
        got, want = (fidelity.at(m.items, m.config, f)[0] for m, f in ((means, asked), (whole, share)))
        for name, value in flatten(want).items():
            np.testing.assert_allclose(flatten(got)[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert pack.main([faithful, str(tmp_path / "x"), "--sharp", sharp, "--between", "0.7", "0.1"]) == 2


def test_the_second_end_takes_a_quarter_of_the_first(ends, tmp_path):
    faithful, sharp, _ = ends
    alone, both = tmp_path / "alone", tmp_path / "both"
    pack.pack(str(faithful), str(alone))
    pack.pack(str(faithful), str(both), sharp=str(sharp))
    config = checkpoint.read_config(both)[1]
    assert config.sharp == SharpConfig(fidelity=0.5, networks=("first_stage", "denoiser"))
    arrays = [sum(a.nbytes for a in flatten(checkpoint.load_model(d).items).values()) for d in (alone, both)]
    own = {n: fidelity.own_parts(n, p, config) for n, p in checkpoint.load_model(alone).items.items()}
    can_differ = sum(a.nbytes for parts in own.values() for a in parts.values())
    assert 0.25 * can_differ < arrays[1] - arrays[0] < 0.3 * can_differ
    written = hub.pack(both, tmp_path / "hub", hub.Card("both", "other"))
    assert tmp_path / "hub" / "sharp.safetensors" in written
    a, b = (flatten(checkpoint.load_model(d).items) for d in (both, tmp_path / "hub"))
    assert a.keys() == b.keys()
    assert all(np.array_equal(a[name], b[name]) for name in a)
    with pytest.raises(ConversionError, match="sharp is what the sharp end differs by"):
        to_torch(both, tmp_path / "sharp.safetensors", item="sharp")


def doubled(first_stage):
    return first_stage | {"codebook": 2 * first_stage["codebook"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda items: items, "the same numbers"),
        (lambda items: items | {"first_stage": doubled(items["first_stage"])}, "codebook differs, which both ends"),
    ],
)
def test_ends_that_do_not_fit_are_refused(plain_model, tmp_path, capsys, change, message):
    model = checkpoint.load_model(plain_model)
    checkpoint.save_model(tmp_path / "other", change(model.items), kind="vdiffsr", config=model.config)
    assert pack.main([str(plain_model), str(tmp_path / "x"), "--sharp", str(tmp_path / "other")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_what_is_said_of_ends_is_checked(ends, model, tmp_path, capsys):
    faithful, _, both = ends
    for argv, message in [
        ([faithful, tmp_path / "x", "--fidelity=0.5"], "give the other one with --sharp"),
        ([faithful, tmp_path / "x", "--sharp", model], "differs from"),
        ([faithful, tmp_path / "x", "--sharp", both], "was packed from two models"),
        ([faithful, tmp_path / "x", "--sharp", model, "--fidelity=2"], "sharp.fidelity=2.0 must lie in 0..1"),
    ]:
        assert pack.main([str(part) for part in argv]) == 2
        assert message in capsys.readouterr().err
