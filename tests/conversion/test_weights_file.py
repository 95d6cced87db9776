from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conversion.torch_writer import archive, save
from vdiffsr_jax.conversion import weights_file
from vdiffsr_jax.weights.lazy_array import WeightsFileError

A, B = np.zeros(2, np.float32), np.ones(3, np.float32)


def names(path: Path) -> dict[str, list[str]]:
    return {where: list(tensors) for where, tensors in weights_file.read(path).items()}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"a.w": A, "b.w": B}, ""),
        ({"module.a.w": A, "module.b.w": B}, ""),
        ({"_orig_mod.module.a.w": A, "_orig_mod.module.b.w": B}, ""),
        ({"module._orig_mod.a.w": A, "module._orig_mod.b.w": B}, ""),
        ({"iters_start": 5, "state_dict": {"a.w": A, "b.w": B}}, "state_dict"),
        ({"params": {"x": A}, "params_ema": {"a.w": A, "b.w": B}}, "params_ema"),
        ({"params": {"a.w": A, "b.w": B}}, "params"),
        ({"model": {"a.w": A, "b.w": B}, "optimizer": {"state": {0: {"step": A}}}}, "model"),
        ({"ema": {"a.w": A, "b.w": B}, "model": {"x": A}}, "ema"),
        ({"ema": {"decay": 1}, "model": {"a.w": A, "b.w": B}}, "model"),
        ({"model_state_dict": {"module.a.w": A, "module.b.w": B}, "epoch": 3}, "model_state_dict"),
        ({"net": {"a.w": A, "b.w": B}}, "net"),
        ({"model": {"state_dict": {"a.w": A, "b.w": B}}}, "model.state_dict"),
        ({"generator": {"a.w": A, "b.w": B}, "step": 3}, "generator"),
    ],
)
def test_layers_and_prefixes_come_off(tmp_path: Path, content, where: str):
    assert names(save(tmp_path / "f.pth", content)) == {where: ["a.w", "b.w"]}


def test_vars_own_trainer_keeps_two_networks(tmp_path: Path):
    trainer = {
        "var_wo_ddp": {"_orig_mod.a": A},
        "vae_local": {"b": B},
        "var_opt": {"state": {0: {"step": A}}},
        "prog_it": 0,
    }
    path = save(tmp_path / "ar-ckpt.pth", {"epoch": 3, "trainer": trainer, "args": {"depth": 16, "pn": (1, 2)}})
    assert names(path) == {"var": ["a"], "tokenizer": ["b"]}
    assert names(save(tmp_path / "f.pth", {"trainer": {"var_wo_ddp": {"a": A}}})) == {"var": ["a"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"module.a": A, "a": B}, "holds a twice"),
        ({"a": A, "epoch": 3}, "is mixed: 'epoch' is a int"),
        ({"model": {"a": {}}}, "holds no state dict: 'model' is a dict.*found: model"),
        ({"left": {"a": A}, "right": {"a": A}}, r"holds no state dict: 'left' is a dict.*torch\.save"),
        ({}, "holds no tensors"),
        ((1, 2), "holds a tuple"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content, message: str):
    with pytest.raises(WeightsFileError, match=message):
        weights_file.read(save(tmp_path / "f.pth", content))


def many(levels: int, width: int, leaf: Any) -> Any:
    """Dictionaries that hold the next one in every place: small, with width ** levels ways to the last."""
    for _ in range(levels):
        leaf = {str(i): leaf for i in range(width)}
    return leaf


def endless() -> dict:
    tree: dict = {}
    tree["a"] = tree
    return tree


def test_dictionaries_without_end_are_refused(tmp_path: Path):
    for i, tree in enumerate((endless(), many(80, 1, 0), many(5, 300, {}))):
        bare = tmp_path / f"{i}.pkl"
        bare.write_bytes(pickle.dumps(tree, 2))
        with pytest.raises(WeightsFileError, match=r"\d\.pkl.*64 deep, or are more than 1000000"):
            weights_file.read(bare)
        wrapped = archive(tmp_path / f"{i}.pth", {"data.pkl": pickle.dumps({"state_dict": tree}, 2)})
        with pytest.raises(WeightsFileError, match=r"\d\.pth: .*64 deep, or are more than 1000000"):
            weights_file.read(wrapped)


def test_a_pickle_that_spells_a_name_in_two_ways_is_refused(tmp_path: Path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"a": {"b": A}, "a/b": B}, 4))
    with pytest.raises(WeightsFileError, match="holds a/b twice"):
        weights_file.read(path)


def test_what_is_no_shard_is_said(tmp_path: Path):
    paths = [tmp_path / f"m-0000{i}-of-00002.pth" for i in (1, 2)]
    for contents, message in (
        (((A,), {"a": A}), "00001-of-00002.pth is no shard: it holds a tuple"),
        (({"a": A}, (A,)), "00002-of-00002.pth is no shard: it holds a tuple"),
        (({"a": A}, {"a": B}), "00002-of-00002.pth is no shard: a is in another too"),
    ):
        for path, content in zip(paths, contents, strict=True):
            save(path, content)
        with pytest.raises(WeightsFileError, match=message):
            weights_file.read(paths[0])


def test_source_is_name_and_digest(tmp_path: Path):
    path = save(tmp_path / "x.pth", {"a": A})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights_file.source(path, kind="var") == {"file": "x.pth", "sha256": digest, "kind": "var"}
