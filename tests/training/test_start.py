"""What a student starts from: denoiser, prior and first stage that belong together, or a refusal."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax.config import ConfigError, VDiffSRConfig, to_dict
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.weights import checkpoint

CONFIG = tiny_config(num_steps=4)


@pytest.fixture(scope="module")
def items():
    return random_items(CONFIG)


@pytest.fixture(scope="module")
def teacher(items, tmp_path_factory) -> Path:
    """A VDiff-SR model that was trained: no W_o is zero."""
    path = tmp_path_factory.mktemp("teacher") / "model"
    checkpoint.save_model(path, items, kind="vdiffsr", config=CONFIG)
    return path


def saved(path: Path, items: dict, config: VDiffSRConfig = CONFIG) -> Path:
    checkpoint.save_model(path, items, kind="vdiffsr", config=config)
    return path


def changed(params: dict, end: str, change) -> dict:
    """`params` with `change` at every parameter whose name ends so."""
    flat = flatten(params)
    return unflatten({name: change(leaf) if name.endswith(end) else leaf for name, leaf in flat.items()}, params)


def student(teacher: Path, model: VDiffSRConfig = CONFIG, loss: dict | None = None, **start: Path | None) -> tasks.Task:
    return tasks.make(
        parse_train(
            {
                "task": "distill",
                "model": to_dict(model),
                "loss": loss or {"perceptual": 0.0},
                "data": {"synthetic_fraction": 1.0, "crop_size": 64, "degradation": "bicubic"},
                "init_from": {"teacher": teacher and str(teacher)}
                | {"first_stage": str(teacher)}
                | {name: str(path) for name, path in start.items()},
            }
        )
    )


def load(task: tasks.Task) -> dict[str, np.ndarray]:
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.device_get(task.load(jax.random.key(0), lambda name, leaf: here))


def assert_holds(flat: dict[str, np.ndarray], network: str, params: dict) -> None:
    for name, leaf in flatten(params).items():
        np.testing.assert_array_equal(flat[f"{network}/{name}"], leaf, err_msg=f"{network}/{name}")


def test_a_teacher_alone_gives_its_units_and_the_prior_that_they_were_trained_with(teacher, items):
    task = student(teacher)
    flat = load(task)
    assert_holds(flat, "denoiser", items["denoiser"])
    assert_holds(flat, "pvar", items["pvar"])
    assert {task.group(name) for name in flat if task.trainable(name)} == {"base"}, "nothing is fresh"


def test_explicit_pvar_and_denoiser_come_before_the_teachers(teacher, items, tmp_path):
    other = {name: jax.tree.map(lambda x: x + np.float32(1), params) for name, params in items.items()}
    path = saved(tmp_path / "other", other | {"first_stage": items["first_stage"]})
    assert_holds(load(student(teacher, pvar=path)), "pvar", other["pvar"])
    flat = load(student(teacher, denoiser=path))
    assert_holds(flat, "denoiser", other["denoiser"])
    assert_holds(flat, "pvar", other["pvar"])


def test_units_that_were_never_trained_learn_at_the_new_rate(items, tmp_path):
    fresh = items | {"denoiser": changed(items["denoiser"], "w_o/kernel", np.zeros_like)}
    fresh["denoiser"] = changed(fresh["denoiser"], "w_o/bias", np.zeros_like)
    task = student(saved(tmp_path / "fresh", fresh))
    groups = {name: task.group(name) for name in load(task) if task.trainable(name)}
    assert {group for name, group in groups.items() if "/cspa/" in name or "/cogu/" in name} == {"new"}
    assert {group for name, group in groups.items() if "/unet/" in name} == {"base"}


def test_trained_units_do_not_read_another_prior(teacher):
    """Same dimensions, so the units would fit; but VAR is another, so its read-out would be fresh."""
    prior = dataclasses.replace(CONFIG.prior, var=dataclasses.replace(CONFIG.prior.var, width=64))
    with pytest.raises(ConfigError, match=r"trained CoGU and CSPA.*set init_from\.pvar"):
        student(teacher, dataclasses.replace(CONFIG, prior=prior))


def test_trained_units_do_not_read_the_teachers_prior(teacher, tmp_path):
    """The denoiser's own prior does not fit the run's, the teacher's would."""
    other = dataclasses.replace(CONFIG, prior=dataclasses.replace(CONFIG.prior, lora_rank=CONFIG.prior.lora_rank + 1))
    start = saved(tmp_path / "other", random_items(other), other)
    with pytest.raises(ConfigError, match=r"init_from\.denoiser has trained CoGU and CSPA.*set init_from\.pvar"):
        student(teacher, denoiser=start)
    assert_holds(load(student(teacher, denoiser=start, pvar=teacher)), "pvar", random_items(CONFIG)["pvar"])


def test_units_of_other_settings_are_fresh_and_it_is_said(teacher, items):
    other = dataclasses.replace(CONFIG, cspa=dataclasses.replace(CONFIG.cspa, same=False))
    task = student(teacher, other)
    flat = load(task)
    (note,) = task.notes
    assert "its CoGU and CSPA are left there, new ones are trained (model.cspa.same=True there, False here)" in note
    assert {task.group(name) for name in flat if "/cspa/" in name} == {"new"}


def test_levels_in_reach_change_no_unit(teacher, items):
    fewer = dataclasses.replace(CONFIG, cspa=dataclasses.replace(CONFIG.cspa, levels=(0,)))
    task = student(teacher, fewer)
    assert_holds(load(task), "denoiser", items["denoiser"])
    assert not task.notes


def test_a_denoiser_of_another_latent_space_is_refused(teacher, items, tmp_path):
    codes = items["first_stage"]["codebook"] + np.float32(1e-6)
    other = saved(tmp_path / "codes", items | {"first_stage": items["first_stage"] | {"codebook": codes}})
    start = {"denoiser": other, "first_stage": teacher}
    with pytest.raises(ConfigError, match=r"init_from\.denoiser=.*codes: its first stage is not that of"):
        load(student(None, loss={"perceptual": 0.0, "distil": 0.0}, **start))


def test_a_teacher_of_another_latent_space_is_refused(teacher, items, tmp_path):
    decoder = {**items["first_stage"]["decoder"]}
    decoder["conv_out"] = jax.tree.map(lambda x: x + np.float32(1), decoder["conv_out"])
    same_latents = saved(tmp_path / "decoder", items | {"first_stage": items["first_stage"] | {"decoder": decoder}})
    load(student(same_latents, first_stage=teacher))
    codes = items["first_stage"]["codebook"] + np.float32(1e-6)
    other = saved(tmp_path / "codes", items | {"first_stage": items["first_stage"] | {"codebook": codes}})
    with pytest.raises(ConfigError, match=r"first stage is not that of init_from\.first_stage: codebook"):
        load(student(other, first_stage=teacher))


def test_a_student_without_the_distil_term_needs_no_teacher(teacher):
    start = {"denoiser": teacher, "first_stage": teacher}
    task = student(None, loss={"perceptual": 0.0, "distil": 0.0}, **start)
    assert "teacher" not in task.networks
    assert load(task).keys() == {name for name in load(student(teacher)) if not name.startswith("teacher")}
    with pytest.raises(ConfigError, match=r"init_from.teacher is needed"):
        student(None, **start)


def test_the_picture_terms_look_at_one_window_of_both_pictures(teacher):
    task = student(teacher, loss={"perceptual": 0.0, "pixel": 1.0, "picture_size": 32})
    hr = jax.random.uniform(jax.random.key(1), (1, 64, 64, 3))
    task.decode = lambda flat, z_0: jnp.repeat(jnp.repeat(z_0, 4, 1), 4, 2)[..., :3]
    made, real = task._picture({}, hr[:, ::4, ::4], hr, jax.random.key(0))
    assert made.shape == real.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(made[:, ::4, ::4], real[:, ::4, ::4])
    for size, message in ((128, "at most data.crop_size=64"), (30, "must divide by the first stage's factor")):
        with pytest.raises(ConfigError, match=re.escape(message)):
            student(teacher, loss={"perceptual": 0.0, "pixel": 1.0, "picture_size": size})
