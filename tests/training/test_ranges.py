"""Numbers that make no sense: each is refused in one line that names it, before any network is built of it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.training import tiny
from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.planning.assumed import with_assumed_weights
from vdiffsr_jax.training import tasks
from vdiffsr_jax.training.config import parse_train

CHAIN = tiny.chain()
CHAIN["var"]["data"]["crop_size"] = 64  # the window of the tokenizer that is assumed for a VAR


def numbers(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path, value) of every number and every list of numbers."""
    for name, value in values.items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(value, dict):
            yield from numbers(value, (*path, name))
        elif isinstance(first, int | float | list) and not isinstance(first, bool):
            yield (*path, name), value


def changed(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    values = copy.deepcopy(values)
    node = values
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return values


@pytest.mark.parametrize("name", CHAIN)
def test_a_number_is_refused_or_gives_a_task(name, tmp_path):
    values = to_dict(parse_train(CHAIN[name]))
    folders = (tmp_path / str(i) for i in itertools.count())
    tasks.make(with_assumed_weights(parse_train(values), next(folders))[0])
    for path, value in numbers(values):
        wrong = [[], [0], [-1], [1e9], [float("nan")]] if isinstance(value, list) else [0, -1, float("nan")]
        for number in wrong:
            try:
                cfg = parse_train(changed(values, path, number))
                if path[0] in ("model", "loss", "data"):  # of which networks are built
                    tasks.make(with_assumed_weights(cfg, next(folders))[0])
            except ConfigError:
                pass
            except Exception as error:
                raise AssertionError(f"{'.'.join(path)}={number}") from error


@pytest.mark.parametrize(
    ("name", "setting", "number", "message"),
    [
        ("vqgan", "optimizer.clip", -1, "optimizer.clip=-1.0 must be at least 0"),
        ("vqgan", "optimizer.learning_rate", 0, "optimizer.learning_rate=0.0 must be positive"),
        ("vqgan", "optimizer.new_learning_rate", -1, "optimizer.new_learning_rate=-1.0 must be positive"),
        ("vqgan", "optimizer.warmup", -5, "optimizer.warmup=-5 must be at least 0"),
        ("vqgan", "optimizer.b1", -1, "optimizer.b1=-1.0 must lie in 0..1, below 1"),
        ("vqgan", "optimizer.b2", 1.0, "optimizer.b2=1.0 must lie in 0..1, below 1"),
        ("vqgan", "optimizer.eps", float("nan"), "optimizer.eps=nan must be finite"),
        ("vqgan", "optimizer.clip", float("inf"), "optimizer.clip=inf must be finite"),
        ("vqgan", "optimizer.final", -1, "optimizer.final=-1.0 must lie in 0..1"),
        ("vqgan", "seed", -1, "seed=-1 must lie in 0..4294967295"),
        ("vqgan", "loss.l1", -1, "loss.l1=-1.0 must be at least 0"),
        ("vqgan", "loss.l1_colour", [2.0], "loss.l1_colour=[2.0] must be a list of 3"),
        ("vqgan", "loss.l1_colour", [1, 1, -1], "loss.l1_colour[2]=-1.0 must be at least 0"),
        ("vqgan", "loss.discriminator_layers", 0, "loss.discriminator_layers=0 must be at least 1"),
        ("vqgan", "loss.discriminator_layers", 3, "loss.discriminator_layers=3 needs data.crop_size of 24 at least"),
        ("vqgan", "loss.discriminator_channels", 48, "task=vqgan cannot be built as set: the discriminator needs a"),
        ("vqgan", "model.ch_mult", [], "model.ch_mult=() must not be empty"),
        ("vqgan", "model.in_channels", 1, "model.in_channels=1 must be 3"),
        ("vqgan", "model.num_codebooks", 0, "model.num_codebooks=0 must be at least 1"),
        ("vqgan", "model.ch_mult", [1, 1, 1, 1], "data.crop_size=16 must divide by 32"),
        ("var", "model.mlp_ratio", 0.001, "VARConfig.mlp_ratio=0.001 leaves no channel of 16"),
        ("align", "model.var.num_heads", 0, "model.var.num_heads=0 must be at least 1"),
        ("sharp", "model.cspa.head_dim", 0, "model.cspa.head_dim=0 must be at least 1"),
        ("sharp", "model.cspa.head_dim", 2, "model.cspa.head_dim=2 must divide by 4"),
        ("sharp", "model.cspa.levels", [0, 0], "model.cspa.levels=(0, 0) must increase"),
        ("sharp", "model.schedule.kappa", 0, "model.schedule.kappa=0.0 must be positive"),
        ("sharp", "model.schedule.min_noise_level", 9, "schedule.sqrt_eta_end=0.99 must lie above the first"),
        ("sharp", "loss.adversarial.channels", 48, "task=distill cannot be built as set: the discriminator"),
        ("sharp", "loss.adversarial.layers", 3, "loss.adversarial.layers=3 needs pictures of 24 pixels a side, not 16"),
    ],
)  # fmt: skip
def test_what_used_to_train_or_to_end_in_a_traceback(name, setting, number, message, tmp_path):
    values = changed(to_dict(parse_train(CHAIN[name])), tuple(setting.split(".")), number)
    with pytest.raises(ConfigError) as error:
        tasks.make(with_assumed_weights(parse_train(values), tmp_path)[0])
    assert message in str(error.value)
