"""How often a student's step calls each network, and with how many samples: counted where the step is traced."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.training.conftest import SMOKE
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.models.perceptual import PerceptualDistance
from vdiffsr_jax.models.pyramid_var import PyramidVAR
from vdiffsr_jax.models.var_tokenizer import VARTokenizer
from vdiffsr_jax.models.vdiffsr import VDiffSR
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.chain import runs
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.settings import with_settings

B = 4
COUNTED: dict[str, tuple[type, str]] = {
    "denoiser": (VDiffSR, "__call__"),
    "prior's keys": (VDiffSR, "encode_prior"),
    "encoder": (VQGAN, "encode"),
    "decoder": (VQGAN, "decode"),
    "codes": (VARTokenizer, "encode"),
    "var": (PyramidVAR, "read"),
    "perceptual": (PerceptualDistance, "raw_features"),
}
ONE_OF_EACH = {"encoder": [2 * B], "decoder": [B], "codes": [B], "var": [B], "prior's keys": [B]}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """{network: samples of each call}, in the order of tracing."""
    seen: dict[str, list[int]] = {}

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(self: Any, *args: Any) -> Any:
            seen.setdefault(name, []).append(jax.tree.leaves(args)[0].shape[0])
            return method(self, *args)

        return call

    for name, (network, method) in COUNTED.items():
        monkeypatch.setattr(network, method, counted(name, getattr(network, method)))
    return seen


def trace_gradients(root: Path, *settings: str) -> tasks.Task:
    """Of the student of configs/smoke.py with the published terms."""
    plain = [f"batch_size={B}", "loss={'perceptual': 1.0}", f"init_from.perceptual={root}/perceptual"]
    values = runs(read_config_file(SMOKE), root)[root / "distill"]
    task = tasks.make(parse_train(with_settings(values, [*plain, *settings])))
    abstract, side = task.abstract(), task.cfg.data.crop_size
    params = {name: leaf for name, leaf in abstract.items() if task.trainable(name)}
    frozen = {name: leaf for name, leaf in abstract.items() if name not in params}
    batch = {
        "hr": jax.ShapeDtypeStruct((B, side, side, 3), jnp.float32),
        "lr": jax.ShapeDtypeStruct((B, side // 4, side // 4, 3), jnp.float32),
    }
    key, step = jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct((), jnp.int32)
    jax.eval_shape(task.gradients, params, frozen, batch, key, step)
    return task


@pytest.mark.parametrize(
    ("settings", "denoiser"),
    [
        # The teacher's loop is one call, traced once; f(z_0, 0), which has no gradient; the three that have one.
        ([], [B, B, 3 * B]),
        (["loss.gt_start=sampled"], [B, 2 * B]),
        (["loss.use_inverse=false"], [B, B]),
        (["remat=full"], [B, B, 3 * B]),
    ],
    ids=str,
)
def test_a_step_calls_each_network_once_but_the_denoiser(chain_configs, calls, settings, denoiser):
    trace_gradients(chain_configs, *settings)
    assert calls.pop("denoiser") == denoiser
    assert calls.pop("perceptual") == [B, B]
    assert calls == ONE_OF_EACH


def test_a_student_without_a_teacher(chain_configs, calls):
    """f(z_0, 0); then f(z_T, T) and the gt term's start as one; then the inverse, which starts from what was found."""
    start = f"init_from.denoiser={chain_configs}/distill/model"
    trace_gradients(chain_configs, start, "init_from.teacher=null", "loss.distil=0.0")
    assert calls.pop("denoiser") == [B, 2 * B, B]
    del calls["perceptual"]
    assert calls == ONE_OF_EACH


@pytest.mark.parametrize(("train", "parts"), [("none", set()), ("adapter", {"adapter", "code_proj"})])
def test_a_prior_that_is_not_trained_has_the_teachers_very_arrays(chain_configs, calls, train, parts):
    """Both passes are traced, of the same window and the same arrays: the compiler makes one of them."""
    own = chain_configs / "distill" / "model"
    starts = [f"init_from.{flag}={own}" for flag in ("teacher", "pvar")]
    task = trace_gradients(chain_configs, *starts, f"model.prior.train={train}")
    assert calls["codes"] == calls["var"] == [B, B]
    theirs = {name.split("/")[1] for name in task.abstract() if name.startswith("teacher_pvar/")}
    assert theirs == parts
    kept = json.loads((own / "config.json").read_text())["config"]["prior"]
    assert kept["train"] == "lora", "as the teacher was trained"
