"""A student guided by the tokenizer's codes alone (`prior.kind=codes`): the control that tells what VAR adds."""

from __future__ import annotations

import jax
import numpy as np

import vdiffsr_jax
from tests.training import tiny
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.weights import checkpoint


def saved(path, kind, config):
    """A checkpoint of random numbers, none zero."""
    parsed, rng = kinds.parse_config(kind, config), np.random.default_rng(0)

    def draw(abstract):
        flat = flatten(abstract)
        return unflatten({n: rng.standard_normal(x.shape).astype(np.float32) / 4 for n, x in flat.items()}, abstract)

    networks = kinds.networks(kind, parsed)
    items = {name: draw(network.abstract) for name, network in networks.items()}
    checkpoint.save_model(path, items, kind=kind, config=parsed)
    return str(path)


def test_a_student_learns_to_read_codes(tmp_path, monkeypatch):
    one = jax.devices()[:1]  # a program for eight devices takes twice as long to compile
    monkeypatch.setattr(jax, "devices", lambda: one)
    tokenizer = saved(tmp_path / "tokenizer", "var_tokenizer", tiny.TOKENIZER)
    teacher = saved(tmp_path / "teacher", "vdiffsr", tiny.MODEL | {"prior": None})
    codes = {"kind": "codes", "tokenizer": tiny.TOKENIZER, "dim": 16, "train": "adapter"}
    run = tiny.run(
        "distill",
        tiny.MODEL | {"prior": codes},
        tiny.STUDENT,
        teacher=teacher,
        first_stage=teacher,
        tokenizer=tokenizer,
    )
    (made,) = vdiffsr_jax.train(run | {"steps": 3}, tmp_path / "run")
    model = checkpoint.load_model(made / "model")
    assert model.config.prior.kind == "codes"
    pvar, given = (
        flatten(tree) for tree in (model.items["pvar"], checkpoint.load_model(tokenizer).items["var_tokenizer"])
    )
    kept = {name.removeprefix("tokenizer/") for name in pvar if name.startswith("tokenizer/")}
    assert kept
    assert all(np.array_equal(pvar[f"tokenizer/{name}"], given[name]) for name in kept), "the tokenizer is frozen"
    assert not np.array_equal(pvar["read_out/norm/bias"], np.zeros_like(pvar["read_out/norm/bias"])), (
        "the read-out learns"
    )
    units = {name: leaf for name, leaf in flatten(model.items["denoiser"]).items() if name.endswith("w_o/kernel")}
    assert units
    assert all(np.any(leaf) for leaf in units.values()), "CoGU and CSPA, fresh, learn to use it"
    picture = np.tile(np.arange(8, dtype=np.uint8)[:, None, None] * 30, (1, 8, 3))
    assert vdiffsr_jax.load(made / "model", devices=1).upscale(picture).shape == (32, 32, 3)
