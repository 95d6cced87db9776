"""Settings: what is refused, with which words, and how --set and the ablation's names arrive."""

from __future__ import annotations

import json

import pytest

from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.config_file import SWITCHES, read_config_file
from vdiffsr_jax.training.config import TrainConfig, check_batch, parse_train
from vdiffsr_jax.training.settings import with_settings

DATA = {"synthetic_fraction": 1.0}


def values(**changes) -> dict:
    return {"task": "vqgan", "data": DATA} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "gan"}, "task='gan' must be one of vqgan, tokenizer, var, align, teacher, distill"),
        ({"batch_size": 30, "mesh": {"data": 8}}, "batch_size=30 must divide by 8 devices; try 32"),
        ({"batch_size": 30, "mesh": {"data": 4, "fsdp": 2}}, "batch_size=30 must divide by 8 devices; try 32"),
        ({"batch_size": 24, "accumulate": 2, "mesh": {"data": 8}}, "8 devices x accumulate=2; try 32"),
        ({"bach_size": 8}, "unknown setting 'bach_size'; did you mean 'batch_size'"),
        ({"dtype": "float16"}, "dtype='float16' must be one of float32, bfloat16"),
        ({"optimizer": {"schedule": "linear"}}, "schedule='linear' must be one of cosine, constant"),
        ({"optimizer": {"lerning_rate": 1}}, "optimizer.lerning_rate"),
        ({"loss": {"l2": 1.0}}, "unknown setting 'loss.l2'"),
        ({"ema_decay": 1.0}, "ema_decay=1.0 must lie in 0..1"),
        ({"steps": 0}, "steps=0 must be at least 1"),
        ({"checkpoint": {"every": 0}}, "checkpoint.every=0 must be at least 1"),
        ({"eval": {"every": -1}}, "eval.every=-1 must be at least 0"),
        ({"eval": {"batches": 0}}, "eval.batches=0 must be at least 1"),
        ({"eval": {"grid_rows": 0}}, "eval.grid_rows=0 must be at least 1"),
        ({"mesh": {"fsdp": 0}}, "mesh.fsdp=0 must be at least 1"),
        ({"task": "var", "loss": {"label_smoothing": 2}}, "loss.label_smoothing=2.0 must lie in 0..1"),
        ({"task": "distill", "loss": {"gt_start": "random"}}, "gt_start='random'"),
    ],
)
def test_refused(changes, message):
    with pytest.raises(ConfigError) as error:
        parse_train(values(**changes))
    assert message in str(error.value)


def test_batch_is_checked_against_the_devices_found():
    cfg = parse_train(values(batch_size=30))
    check_batch(cfg, 5)
    with pytest.raises(ConfigError, match="must divide by 8 devices; try 32"):
        check_batch(cfg, 8)


def test_round_trip_is_json():
    cfg = parse_train(values(task="distill", steps=7))
    stored = json.loads(json.dumps(to_dict(cfg)))
    assert parse_train(stored) == cfg


def test_set_overrides_and_names_of_the_ablation():
    settings = [
        "batch_size=16", "optimizer.learning_rate=2e-4", "cogu=false", "cspa.levels=[3, 4]", "inverse=False",
        "prior.train=adapter", "prior.mode=shuffled", "data.degradation=mild",
    ]  # fmt: skip
    given = values(task="distill")
    cfg = parse_train(with_settings(given, settings))
    assert cfg.batch_size == 16
    assert cfg.optimizer.learning_rate == 2e-4
    assert not cfg.model.cogu.enabled
    assert cfg.model.cspa.levels == (3, 4)
    assert not cfg.loss.use_inverse
    assert (cfg.model.prior.train, cfg.model.prior.mode) == ("adapter", "shuffled")
    assert given == values(task="distill"), "the given mapping must not change"
    assert parse_train(with_settings(given, ["prior=none"])).model.prior is None
    assert parse_train(with_settings(given, ["prior=full"])).model.prior.train == "full"


def test_every_switch_reaches_a_setting():
    plain = to_dict(parse_train(values(task="distill")))
    for key in SWITCHES.values():
        node = plain
        for part in key.split("."):
            assert part in node, key
            node = node[part]


@pytest.mark.parametrize("setting", ["batch_size", "task.name=3"])
def test_set_refuses(setting):
    with pytest.raises(ConfigError, match=f"--set {setting}"):
        with_settings(values(), [setting])


def test_config_files_parse(pytestconfig):
    files = sorted((pytestconfig.rootpath / "configs").glob("*.py"))
    assert len(files) >= 6
    for file in files:
        config = read_config_file(file)
        assert "ConfigDict" in file.read_text(), file
        for run in [config] if "task" in config else config.values():
            assert isinstance(parse_train(run), TrainConfig), file


def test_the_distance_that_is_trained_on_does_not_pick_the_best():
    values = {
        "task": "vqgan",
        "data": {"sources": ["x"]},
        "loss": {"perceptual": 1.0},
        "eval": {"best": "perceptual"},
    }
    with pytest.raises(ConfigError, match=r"the distance that the loss trains on.*allow_trained_metric=true"):
        parse_train(values)
    parse_train(with_settings(values, ["eval.allow_trained_metric=true"]))
    parse_train(with_settings(values, ["loss.perceptual=0.0"]))
