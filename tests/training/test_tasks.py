"""Every task and every ablation, traced without numbers: what is trained, in which group, what is measured."""

from __future__ import annotations

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training import tiny
from tests.training.conftest import SMOKE, write_config
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.chain import runs
from vdiffsr_jax.training.config import TrainConfig, parse_train
from vdiffsr_jax.training.optim import GROUPS, Flat
from vdiffsr_jax.training.settings import with_settings
from vdiffsr_jax.training.sharding import match, placed
from vdiffsr_jax.training.step import accumulated
from vdiffsr_jax.training.tasks.autoencoder import colour_weighted, multiscale_l1
from vdiffsr_jax.training.tasks.tokenizer import CODEBOOK


def config(root, name: str, *settings: str) -> TrainConfig:
    return parse_train(with_settings(runs(read_config_file(SMOKE), root)[root / name], settings))


def traced(task: tasks.Task) -> tuple[set[str], Flat, Flat]:
    """Names of the trained parameters, shapes of their gradients, shapes of the metrics."""
    cfg, abstract = task.cfg, task.abstract()
    params = {name: leaf for name, leaf in abstract.items() if task.trainable(name)}
    frozen = {name: leaf for name, leaf in abstract.items() if name not in params}
    hr = jax.ShapeDtypeStruct((cfg.batch_size, cfg.data.crop_size, cfg.data.crop_size, 3), jnp.float32)
    lr = jax.ShapeDtypeStruct((cfg.batch_size, *(cfg.data.crop_size // 4,) * 2, 3), jnp.float32)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    gradients = accumulated(task.gradients, cfg.accumulate)
    grads, metrics = jax.eval_shape(gradients, params, frozen, {"hr": hr, "lr": lr}, key, step)
    assert {name: g.shape for name, g in grads.items()} == {name: p.shape for name, p in params.items()}
    assert all(g.dtype == jnp.float32 for g in grads.values())
    assert all(m.shape == () for m in metrics.values())
    judged = jax.eval_shape(task.evaluate, abstract, {"hr": hr, "lr": lr}, key)
    assert judged.image.shape == hr.shape
    assert all(m.shape == (cfg.batch_size,) for m in judged.metrics.values())
    for name in abstract:
        match(name)
        assert task.group(name) in GROUPS
    return set(params), grads, metrics


@pytest.mark.parametrize("name", ["vqgan", pytest.param("tokenizer", marks=pytest.mark.slow)])
def test_autoencoders(chain_configs, name):
    perceptual = (f"init_from.perceptual={chain_configs}/perceptual", "loss.perceptual=1.0")
    task = tasks.make(config(chain_configs, name, *perceptual))
    trained, _, metrics = traced(task)
    assert {part.split("/")[0] for part in trained} == {name, "patch_gan"}
    assert {"l1", "perceptual", "codebook", "gan", "discriminator", "gan_weight", "loss"} <= metrics.keys()
    assert {task.group(part) for part in trained} == {"base", "discriminator"}
    plain = tasks.make(config(chain_configs, name, "loss.gan=0.0", "dtype=bfloat16"))
    trained, _, metrics = traced(plain)
    assert {part.split("/")[0] for part in trained} == {name}
    assert "gan" not in metrics


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["loss={}", "remat=full"])
def test_var(chain_configs, setting):
    trained, _, metrics = traced(tasks.make(config(chain_configs, "var", setting)))
    assert {part.split("/")[0] for part in trained} == {"var"}
    assert metrics.keys() == {"loss", "accuracy"}


def test_align(chain_configs):
    task = tasks.make(config(chain_configs, "align"))
    trained, _, metrics = traced(task)
    assert metrics.keys() == {"loss", "cross_entropy", "f_hat", "accuracy"}
    assert {name.split("/")[0] for name in trained} == {"pvar", "reader"}
    assert {name.split("/")[1] for name in trained if name.startswith("pvar/")} == {"var", *READ_OUT}
    assert all(name.endswith(("/lora_a", "/lora_b")) for name in trained if name.startswith("pvar/var/"))
    assert {task.group(name) for name in trained} == {"new"}
    there = set(task.abstract())
    assert not {name for name in there if name.startswith(("head/blocks", "pvar/tokenizer"))}, "VAR and codes once"
    assert task.is_rising("accuracy_16")
    assert not task.is_rising("cross_entropy")
    whole = tasks.make(config(chain_configs, "align", "model.train=full"))
    own = {name for name in whole.abstract() if whole.trainable(name)} - trained
    assert own
    assert {whole.group(name) for name in own} == {"base"}


WITH_PRIOR = ("task=teacher", "loss={}")  # settings that make a teacher of the chain's student


@pytest.mark.slow
def test_teacher_with_and_without_prior(chain_configs):
    task = tasks.make(config(chain_configs, "distill", *WITH_PRIOR, "remat=full", "dtype=bfloat16", "accumulate=2"))
    trained, _, metrics = traced(task)
    assert {part.split("/")[0] for part in trained} == {"denoiser", "pvar"}
    assert metrics.keys() == {"loss"}
    trained, _, _ = traced(tasks.make(config(chain_configs, "teacher")))
    assert {part.split("/")[0] for part in trained} == {"denoiser"}
    assert all(part.startswith("denoiser/unet/") for part in trained)


GAME = {"gan", "matching", "discriminator"}
ALL = {"distil", "inverse", "gt", "pixel", *GAME}
UNALIGNED = (  # settings that start the student's prior from VAR and its tokenizer
    "init_from.pvar=null", "init_from.tokenizer={root}/tokenizer/model", "init_from.var={root}/var/model",
)  # fmt: skip
READ_OUT = ("adapter", "code_proj")
ABLATIONS = [
    (["inverse=false"], ALL - {"inverse", "gt"}, None),
    (["inverse=false", "loss.gt_start=sampled"], ALL - {"inverse"}, None),
    (["cogu=false"], ALL, None),
    (["cspa.same=false"], ALL, None),
    (["cspa.cross=false"], ALL, None),
    (["cspa.levels=[1, 3]"], ALL, None),
    (["prior.train=none"], ALL, ()),
    (["prior.train=adapter"], ALL, READ_OUT),
    (["prior.train=full"], ALL, ("var", *READ_OUT)),
    (["prior.mode=shuffled"], ALL, ("lora", *READ_OUT)),
    ([*UNALIGNED, "prior.mode=random_weights"], ALL, ("lora", *READ_OUT)),
    (["prior=none"], ALL, ()),
]


@pytest.mark.parametrize(
    ("settings", "terms", "trained_prior"),
    [([], ALL, ("lora", *READ_OUT)), *(pytest.param(*ablation, marks=pytest.mark.slow) for ablation in ABLATIONS)],
    ids=lambda value: ",".join(value) if isinstance(value, list) else "",
)
def test_every_ablation_of_the_student(chain_configs, settings, terms, trained_prior):
    settings = [setting.replace("{root}", str(chain_configs)) for setting in settings]
    task = tasks.make(config(chain_configs, "distill", *settings))
    trained, _, metrics = traced(task)
    assert metrics.keys() == terms | {"loss"}
    prior = {name.removeprefix("pvar/") for name in trained if name.startswith("pvar/")}
    if trained_prior is not None:
        assert bool(prior) == bool(trained_prior)
        for name in prior:
            part = "lora" if "/lora_" in name and "lora" in trained_prior else name.split("/")[0]
            assert part in trained_prior, name
    assert not any(name.startswith(("teacher", "pvar/tokenizer")) for name in trained)
    decoder = {name.split("/")[1] for name in trained if name.startswith("first_stage/")}
    assert decoder == {"decoder", "post_quant_conv"}
    groups = {task.group(name) for name in trained}
    assert groups == {"base", "discriminator"} | (set() if settings == ["prior=none"] else {"new"})
    units = {name.split("/")[1] for name in trained if name.startswith("denoiser/")}
    assert ("cogu" in units) == (settings not in (["cogu=false"], ["prior=none"]))


@pytest.mark.slow
def test_student_with_perceptual_loss_and_plain_teacher(chain_configs, tmp_path):
    teacher = json.loads((chain_configs / "teacher" / "model" / "config.json").read_text())["config"]
    unet = {"denoiser": teacher["denoiser"], "schedule": teacher["schedule"]}
    write_config(tmp_path / "unet", "swin_unet", unet)
    settings = [
        f"init_from.teacher={tmp_path}/unet", "loss.perceptual=1.0", f"init_from.perceptual={chain_configs}/perceptual",
    ]  # fmt: skip
    task = tasks.make(config(chain_configs, "distill", *settings))
    assert "teacher_pvar" not in task.networks
    assert "perceptual" in traced(task)[2]


def test_a_student_of_pictures_alone(chain_configs):
    settings = [
        f"init_from={{'first_stage': '{chain_configs}/vqgan/model', 'denoiser': '{chain_configs}/teacher/model'}}",
        "prior=none", "loss={'distil': 0.0, 'use_inverse': False, 'perceptual': 0.0, 'pixel': 1.0}",
    ]  # fmt: skip
    assert traced(tasks.make(config(chain_configs, "distill", *settings)))[2].keys() == {"pixel", "loss"}
    with pytest.raises(ConfigError, match="no term is left to train on"):
        config(chain_configs, "distill", *settings, "loss.pixel=0.0")


@pytest.mark.slow
def test_student_of_a_teacher_with_a_prior(chain_configs):
    own = chain_configs / "distill" / "model"
    task = tasks.make(config(chain_configs, "distill", f"init_from.teacher={own}", f"init_from.pvar={own}"))
    trained, _, _ = traced(task)
    assert "teacher_pvar" in task.networks
    assert not any(name.startswith("teacher") for name in trained)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "distill",
            ["model.schedule.num_steps=15"],
            "does not fit model.schedule: num_steps=4 there, 15 here",
        ),
        ("distill", ["model.denoiser.swin_depth=1"], "does not fit model.denoiser: swin_depth=2 there, 1 here"),
        ("teacher", ["model.first_stage.n_embed=32"], "does not fit model.first_stage: n_embed=64 there, 32 here"),
        ("distill", [*UNALIGNED, "model.prior.var.depth=4"], "init_from.var does not fit model.prior.var: depth=2"),
        ("align", ["model.var.depth=4"], "init_from.var does not fit model.var: depth=2 there, 4 here"),
        ("align", ["model.kind=codes"], "task align is for model.kind=var, not codes"),
        ("align", ["model.taps=[1]"], "the last of model.taps must be 2"),
        ("align", ["model.train=none"], "trains nothing"),
        (
            "align",
            ["model.train=adapter"],
            "of which model.train=adapter trains nothing",
        ),
        ("align", ["data.degradation=none"], "data.degradation=none makes no LR"),
        ("distill", ["loss={'train_decoder': True, 'perceptual': 0.0}"], "loss.train_decoder needs loss.perceptual"),
        ("distill", ["loss.adversarial.on=vgg16", "init_from.perceptual={root}/perceptual"], "perceptual is efficient"),
        ("teacher", ["data.crop_size=64"], "data.crop_size=64 must be one tile"),
        ("distill", ["prior.mode=shuffled", "batch_size=1"], "prior.mode=shuffled needs at least two samples"),
        ("teacher", ["init_from.first_stage={root}/var/model"], "is a var checkpoint; it must be vqgan or vdiffsr"),
        ("distill", ["init_from.pvar={root}/vqgan/model"], "is a vqgan checkpoint; it must be"),
        ("var", ["model.vocab_size=32"], "model.vocab_size=32 but the tokenizer"),
        ("var", ["model.lora_rank=4"], "model.lora_rank is set by"),
        ("var", ["model.attention=full"], "reads the codes that it is to predict"),
        ("var", ["data.crop_size=16"], "data.crop_size=16 must be the tokenizer's window, 32"),
        ("vqgan", ["init_from.first_stage={root}/vqgan/model", "model.n_embed=8"], "n_embed=64 there, 8 here"),
    ],
)
def test_refused(chain_configs, name, settings, message):
    with pytest.raises(ConfigError) as error:
        tasks.make(config(chain_configs, name, *(s.replace("{root}", str(chain_configs)) for s in settings)))
    assert message in str(error.value)


def test_shuffled_prior_reads_the_window_of_another_sample(chain_configs):
    window = jnp.arange(3.0)[:, None, None, None]
    for mode, read in (("teacher_forced", [0, 1, 2]), ("shuffled", [2, 0, 1])):
        task = tasks.make(config(chain_configs, "distill", f"prior.mode={mode}"))
        task.assembled = types.SimpleNamespace(networks={}, denoiser=lambda items, lr, window: window)
        assert task.closure({}, window, window).ravel().tolist() == read
    with pytest.raises(ValueError, match="needs at least two"):
        task.closure({}, window, window[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vqgan", "tokenizer", "var", "align", "teacher", "distill"])
def test_one_and_eight_devices_give_one_loss(tiny_chain, name):
    """Loss and gradient norm of a step on one device and on eight, over both axes; of one task over each alone."""
    from vdiffsr_jax.data import pipeline
    from vdiffsr_jax.training.config import MeshConfig
    from vdiffsr_jax.training.sharding import Layout

    cfg = dataclasses.replace(tiny_chain[name], batch_size=8)
    task = tasks.make(cfg)
    batches = pipeline.Batches(cfg.data, seed=0, batch_size=8)
    batch = {part: array for part, array in next(batches).items() if part != "index"}
    batches.close()
    one_device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    loaded = jax.device_get(task.load(jax.random.key(0), lambda name, leaf: one_device))
    results = {}
    for devices, fsdp in ((1, 1), (8, 2), *(((8, 1), (8, 8)) if name == "vqgan" else ())):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]).reshape(-1, fsdp), ("data", "fsdp"))
        layout = Layout(mesh, MeshConfig(fsdp=fsdp, min_shard_size=1))
        flat = placed(layout.parameter, loaded)
        params = {part: p for part, p in flat.items() if task.trainable(part)}
        frozen = {part: p for part, p in flat.items() if part not in params}

        def measure(params: Flat, frozen: Flat, batch: Flat) -> tuple[jax.Array, jax.Array]:
            grads, metrics = task.gradients(params, frozen, batch, jax.random.key(1), jnp.asarray(1))
            return metrics["loss"], jnp.sqrt(sum(jnp.square(g).sum() for g in grads.values()))

        results[devices, fsdp] = [float(x) for x in jax.jit(measure)(params, frozen, layout.put_batch(batch))]
    for layout_name, values in results.items():
        np.testing.assert_allclose(values, results[1, 1], rtol=2e-5, err_msg=str(layout_name))


def test_multiscale_l1_by_hand():
    checkerboard = jnp.asarray(np.indices((4, 4)).sum(axis=0) % 2 * 2.0 - 1)[None, :, :, None]
    assert multiscale_l1(checkerboard, 1) == 1.0
    assert multiscale_l1(checkerboard, 3) == pytest.approx(1 / 3), "texture vanishes in the smaller sizes"
    assert multiscale_l1(jnp.full((1, 4, 4, 3), -0.5), 3) == 0.5, "colour does not"


def test_colour_weights_scale_their_axis_alone():
    grey, magenta = jnp.full((1, 1, 1, 3), 0.5), jnp.array([[[[-1.0, 2.0, -1.0]]]])
    np.testing.assert_allclose(colour_weighted(grey, (1, 1.5, 4)), grey, rtol=1e-6)
    np.testing.assert_allclose(colour_weighted(magenta, (1, 1.5, 4)), 4 * magenta, rtol=1e-6)
    np.testing.assert_array_equal(colour_weighted(magenta, (1, 1, 1)), magenta)


def test_the_tokenizer_revives_its_codes_in_the_steps_that_it_says():
    settings = tiny.chain()["tokenizer"]
    settings["loss"] = settings["loss"] | {"revive_every": 2, "revive_until": 4}
    task = tasks.make(parse_train(settings))
    params = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in task.abstract().items()}
    codebook = params[CODEBOOK]
    batch = {"hr": jnp.ones((1, 16, 16, 3))}
    params[CODEBOOK] = codebook.at[1].set(1.0)  # all vectors are zero: code 0 is used, code 1 is not
    revive = jax.jit(task.after_update)
    changed = [
        bool((revive(params, batch, jax.random.key(0), i)[CODEBOOK] != params[CODEBOOK]).any()) for i in range(6)
    ]
    assert changed == [True, False, True, False, False, False]
