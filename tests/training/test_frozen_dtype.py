"""frozen_dtype=bfloat16 is a matter of memory: codes, losses and what is exported stay those of float32."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.config import ConfigError, VDiffSRConfig, to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.models.pyramid_var import PyramidVAR
from vdiffsr_jax.models.vqgan import VQGAN
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.tasks.distill import DistillTask
from vdiffsr_jax.weights import checkpoint

CONFIG = tiny_config(num_steps=4)
PRIOR = CONFIG.prior


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """A VDiff-SR model, and its prior's parts beside it."""
    path, items = tmp_path_factory.mktemp("teacher"), random_items(CONFIG)
    checkpoint.save_model(path / "model", items, kind="vdiffsr", config=CONFIG)
    return path / "model"


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Path]:
    """A tokenizer and a VAR of random numbers, as their own checkpoints."""
    path = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(1)
    made = {}
    for part, kind, config in (("tokenizer", "var_tokenizer", PRIOR.tokenizer), ("var", "var", PRIOR.var)):
        item = kinds.item_names(kind, config)[0]
        abstract = kinds.network(kind, item, config).abstract
        params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), abstract)
        made[part] = path / part
        checkpoint.save_model(made[part], {item: params}, kind=kind, config=config)
    return made


def student(teacher: Path, frozen_dtype: str, model: VDiffSRConfig = CONFIG, **settings: object) -> tasks.Task:
    return tasks.make(
        parse_train(
            {
                "task": "distill",
                "model": to_dict(model),
                "dtype": "bfloat16",
                "frozen_dtype": frozen_dtype,
                "loss": {"perceptual": 0.0},
                "data": {"synthetic_fraction": 1.0, "crop_size": 64, "degradation": "bicubic"},
                "init_from": {"teacher": str(teacher), "first_stage": str(teacher)},
            }
            | settings
        )
    )


def load(task: tasks.Task) -> dict[str, jax.Array]:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return task.load(jax.random.key(0), lambda name, leaf: here)


@pytest.fixture(scope="module")
def short(teacher) -> tuple[tasks.Task, dict[str, jax.Array]]:
    """A student with frozen_dtype=bfloat16 and its parameters."""
    task = student(teacher, "bfloat16")
    return task, load(task)


def test_codes_do_not_change(teacher, short):
    """Of pictures, and of many latents, because few lie as close to two codes as rounding moves them."""
    task, flat = short
    images = jax.random.uniform(jax.random.key(1), (4, 64, 64, 3), minval=-1.0)
    z = jax.random.normal(jax.random.key(2), (64, 16, 16, 3))

    @jax.jit
    def codes(flat: dict[str, jax.Array]) -> list[jax.Array]:
        tokens = task.method("pvar", PyramidVAR.tokens)(flat, images)
        latents = [z, task.encode(flat, images)]
        return [*tokens, *(task.method("first_stage", VQGAN.quantize)(flat, z)[1] for z in latents)]

    for ours, exact in zip(codes(flat), codes(load(student(teacher, "float32"))), strict=True):
        np.testing.assert_array_equal(ours, exact)


def test_only_what_is_rounded_before_every_use_is_stored_so(short):
    """Norms, codebooks and phi, which are used in float32, are not; most of the memory is saved all the same."""
    task, flat = short
    assert {name: p.dtype for name, p in flat.items()} == {name: s.dtype for name, s in task.abstract().items()}
    frozen = {name: p for name, p in flat.items() if not task.trainable(name)}
    whole = {name for name, p in frozen.items() if p.dtype == jnp.float32}
    for part in ("codebook", "/phi/", "norm", "log_scale"):
        assert {name for name in frozen if part in name} <= whole, part
    assert {"teacher", "teacher_pvar", "first_stage", "pvar"} <= {n.split("/")[0] for n in frozen.keys() - whole}
    assert sum(frozen[name].size for name in whole) < 0.1 * sum(p.size for p in frozen.values())


def test_the_export_holds_its_sources_bytes(teacher, short, tmp_path):
    task, flat = short
    kind, config, items = task.export(task.unrounded(flat))
    checkpoint.save_model(tmp_path / "out", items, kind=kind, config=config)
    ours = flatten(checkpoint.load_model(tmp_path / "out").items)
    for name, array in flatten(checkpoint.load_model(teacher).items).items():
        assert ours[name].dtype == array.dtype, name
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_a_prior_from_its_parts_is_unrounded_with_what_was_drawn_for_it(parts, teacher, monkeypatch):
    """The frozen read-out of train=none is nowhere but in this run."""
    model = dataclasses.replace(CONFIG, prior=dataclasses.replace(PRIOR, train="none"))
    start = {"first_stage": str(teacher), **{name: str(path) for name, path in parts.items()}}
    task = student(teacher, "bfloat16", model, task="teacher", loss={}, init_from=start)
    monkeypatch.setattr(task, "fresh", lambda *args: {})  # the denoiser, which is trained, is not looked at
    flat = load(task)
    whole = {name: np.asarray(array) for name, array in task.unrounded(flat).items()}
    for part, path in parts.items():
        for name, array in flatten(checkpoint.load_model(path).items).items():
            name = f"pvar/{part}/{name.partition('/')[2]}"
            if name in flat:  # VAR's head and the tokenizer's decoder are not part of a prior
                np.testing.assert_array_equal(whole[name], array, err_msg=name)
    for name in ("pvar/code_proj/kernel", "pvar/adapter/linear/kernel"):
        assert flat[name].dtype == jnp.bfloat16
        assert whole[name].dtype == np.float32
        np.testing.assert_array_equal(whole[name].astype(jnp.bfloat16), flat[name])
        assert (whole[name] != whole[name].astype(jnp.bfloat16)).any(), name


def test_an_aligned_prior_holds_its_parts_bytes(parts):
    """Its tokenizer is there once, for the codes of both photos and for the checkpoint."""
    model = dataclasses.replace(PRIOR, taps=(PRIOR.var.depth,))
    settings = {"task": "align", "dtype": "bfloat16", "frozen_dtype": "bfloat16", "model": to_dict(model)}
    data = {"synthetic_fraction": 1.0, "crop_size": PRIOR.tokenizer.window_size, "degradation": "bicubic"}
    start = {name: str(path) for name, path in parts.items()}
    task = tasks.make(parse_train(settings | {"data": data, "init_from": start}))
    flat = load(task)
    assert flat["tokenizer/encoder/conv_in/kernel"].dtype == jnp.bfloat16
    exported = flatten(task.export(task.unrounded(flat)).items["pvar"])
    for part, path in parts.items():
        for name, array in flatten(checkpoint.load_model(path).items).items():
            name = f"{part}/{name.partition('/')[2]}"
            if name in exported:
                np.testing.assert_array_equal(exported[name], array, err_msg=name)
    assert {"tokenizer", "var"} <= {name.partition("/")[0] for name in exported}


def test_it_is_for_computing_in_bfloat16(teacher):
    with pytest.raises(ConfigError, match="frozen_dtype=bfloat16 needs dtype=bfloat16"):
        student(teacher, "bfloat16", dtype="float32")


@pytest.mark.parametrize("train", ["lora", "none"])
def test_what_student_and_teacher_have_in_common_is_kept_and_run_once(teacher, train):
    """A student with its teacher's prior: one copy of what it does not train, fewer operations, the same losses."""
    model = dataclasses.replace(CONFIG, prior=dataclasses.replace(PRIOR, train=train))
    once, twice = (student(teacher, "float32", model) for _ in range(2))
    assert isinstance(twice, DistillTask)
    assert twice.shared
    twice.shared = {}
    batch = {"hr": jnp.full((1, 64, 64, 3), 0.3).at[:, 20:40].set(-0.5), "lr": jnp.full((1, 16, 16, 3), 0.1)}
    operations, losses, kept = [], [], []
    for task in (once, twice):
        flat = load(task)
        assert flat.keys() == task.abstract().keys()
        step = jax.jit(task.loss).lower(flat, batch, jax.random.key(3), jnp.int32(0)).compile()
        operations.append(step.cost_analysis()["flops"])
        losses.append(float(step(flat, batch, jax.random.key(3), jnp.int32(0))[0]))
        kept.append({name.removeprefix("teacher_") for name in flat if name.startswith("teacher_pvar/")})
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert kept[0] == {name for name in kept[1] if once.trainable(name)}
    read = PyramidVAR.tokens if train == "lora" else PyramidVAR.__call__
    alone = jax.jit(lambda flat: once.method("pvar", read)(flat, batch["hr"])).lower(load(once)).compile()
    assert operations[1] - operations[0] > 0.9 * alone.cost_analysis()["flops"]
