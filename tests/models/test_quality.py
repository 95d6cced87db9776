"""MUSIQ and CLIPIQA: numbers computed by torch on random weights (tests/golden/quality/make.py)."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conversion.in_memory import convert, invert
from tests.golden.quality.recipe import MUSIQ_SIZES, SIZES, picture, weight
from vdiffsr_jax.conversion import clip_iqa as clip_names
from vdiffsr_jax.conversion import musiq as musiq_names
from vdiffsr_jax.conversion.original_names import original_names
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.models.clip_iqa import CLIPIQA, prompt_tokens
from vdiffsr_jax.models.musiq import MUSIQConfig, hashed_positions, patches

IO = np.load(Path(__file__).parents[1] / "golden" / "quality" / "io.npz")


def in_range(image: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(image, jnp.float32)[None] / 127.5 - 1


def musiq_state(classes: int) -> dict[str, np.ndarray]:
    """Weights under pyiqa's names, whose shapes are derived from our tree."""
    abstract = flatten(kinds.network("musiq", "musiq", MUSIQConfig(classes=classes, **MUSIQ_SIZES)).abstract)
    state = {}
    for name, (path, op) in original_names(musiq_names.TABLE, abstract).items():
        shown = name.replace("head.", "head.0.") if classes > 1 else name
        state[shown] = weight(shown, op.inverse(np.empty(abstract[path].shape)).shape)
    return state


def network(kind: str, table, config, state):
    """(the network, compiled; its parameters)."""
    net = kinds.network(kind, kind, config)
    params = unflatten(convert(table, state, state.get, flatten(net.abstract), kind), net.abstract)
    return jax.jit(net.apply), params


@pytest.mark.parametrize("classes", [1, 10])
def test_musiq_matches_the_reference(classes: int):
    state = musiq_state(classes)
    config = musiq_names.infer_config({name: x.shape for name, x in state.items()})
    assert config == MUSIQConfig(classes=classes, **MUSIQ_SIZES)
    apply, params = network("musiq", musiq_names.TABLE, config, state)
    want = IO["musiq" if classes == 1 else "musiq_ava"]
    for size, mark in list(zip(SIZES, want, strict=True))[: 2 if classes == 1 else 1]:
        assert apply(params, in_range(picture(*size)))[0] == pytest.approx(mark, abs=1e-5)  # measured: at most 1e-6


def google(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same numbers as google-research publishes them: Flax's names and layouts, heads apart."""
    block = "opt/target/Transformer/encoderblock_{}/"
    made = {"opt/state/step": np.zeros(()), "opt/state/param_states/head/kernel/momentum": np.zeros((3, 3))}
    ours = convert(musiq_names.TABLE, state, state.get, flatten(kinds.network("musiq", "musiq",
                   MUSIQConfig(**MUSIQ_SIZES)).abstract), "musiq")  # fmt: skip
    for path, x in ours.items():
        parts = path.split("/")
        if parts[0] == "stem":
            if parts[1] == "convs":
                theirs = f"block1/unit1/conv{int(parts[2]) + 1}/kernel"
            elif parts[1] == "norms":
                theirs = f"block1/unit1/gn{int(parts[2]) + 1}/{parts[3]}"
            else:
                unit = {"root": "conv_root", "root_norm": "gn_root", "skip": "block1/unit1/conv_proj",
                        "skip_norm": "block1/unit1/gn_proj"}  # fmt: skip
                theirs = f"{unit[parts[1]]}/{parts[2]}"
            made[f"opt/target/{theirs}"] = x.reshape(1, 1, 1, -1) if x.ndim == 1 else x
        elif parts[0] == "blocks":
            layer = {"norm1": "LayerNorm_0", "norm2": "LayerNorm_2", "fc1": "MlpBlock_3/Dense_0",
                     "fc2": "MlpBlock_3/Dense_1"}  # fmt: skip
            layer = layer.get(parts[2], f"MultiHeadDotProductAttention_1/{parts[2]}")
            if parts[2] in ("query", "key", "value"):
                x = x.reshape(*x.shape[:-1], -1, 64)
            elif parts[2:] == ["out", "kernel"]:
                x = x.reshape(-1, 64, x.shape[-1])
            made[f"{block.format(parts[1])}{layer}/{parts[3]}"] = x
        elif parts[0] in ("embed", "head"):
            made[f"opt/target/{parts[0].replace('embed', 'embedding')}/{parts[1]}"] = x
        else:
            theirs, x = {"position": ("posembed_input/pos_embedding", x[None]),
                         "scale": ("scaleembed_input/scale_embedding", x[None]), "first": ("cls", x),
                         "norm": (f"encoder_norm/{parts[-1]}", x)}[parts[0]]  # fmt: skip
            made[f"opt/target/Transformer/{theirs}"] = x
    return made


def test_the_names_of_both_publishers_give_one_network():
    state = musiq_state(1)
    _, params = network("musiq", musiq_names.TABLE, MUSIQConfig(**MUSIQ_SIZES), state)
    theirs = google(state)
    config = musiq_names.infer_config({name: x.shape for name, x in theirs.items()})
    _, same = network("musiq", musiq_names.TABLE, config, theirs)
    for name, want in flatten(params).items():
        np.testing.assert_array_equal(flatten(same)[name], want)
    for name, want in invert(musiq_names.TABLE, state, flatten(params)).items():
        np.testing.assert_array_equal(want, state[name])


def test_patches_lie_in_the_middle_of_zeros():
    cut = patches(jnp.ones((1, 40, 32, 3)))
    assert cut.shape == (1, 2, 32, 32, 3)
    np.testing.assert_array_equal(cut[0, 0, :, 0, 0], [0] * 12 + [1] * 20)
    np.testing.assert_array_equal(cut[0, 1, :, 0, 0], [1] * 20 + [0] * 12)


def test_positions_share_ten_by_ten_cells():
    assert hashed_positions(32, 64).tolist() == [0, 5]
    assert hashed_positions(640, 32).tolist() == [10 * (i // 2) for i in range(20)]


def clip_state() -> dict[str, np.ndarray]:
    shapes = {name: tuple(map(int, shape)) for name, *shape in (line.split() for line in IO["names"].tolist())}
    return {name: weight(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def clip():
    state = clip_state()
    return network("clip_iqa", clip_names.TABLE, clip_names.infer_config({k: v.shape for k, v in state.items()}), state)


def test_prompts_are_those_of_clips_tokenizer():
    tokens, _ = prompt_tokens()
    np.testing.assert_array_equal(tokens, IO["tokens"][:, :6])
    assert not IO["tokens"][:, 6:].any()


def test_the_prompts_embeddings_match_the_reference(clip):
    _, params = clip
    config = clip_names.infer_config({name: x.shape for name, x in clip_state().items()})
    embed = jax.jit(kinds.network("clip_iqa", "clip_iqa", config).method(CLIPIQA.embed_prompts))
    text = IO["text"] / np.linalg.norm(IO["text"], axis=-1, keepdims=True)
    np.testing.assert_allclose(embed(params), text, atol=2e-6)  # measured: 2e-7


def test_clip_iqa_matches_the_reference(clip):
    apply, params = clip
    for size, mark in zip(SIZES, IO["clip_iqa"], strict=True):
        assert apply(params, in_range(picture(*size)))[0] == pytest.approx(mark, abs=2e-6)  # measured: 2e-7
