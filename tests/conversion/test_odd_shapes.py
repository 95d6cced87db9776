"""Tensors with a known network's names and the shapes of nothing: told, never a traceback, also by --inspect."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.test_convert import CONFIGS, SETTINGS
from tests.conversion.test_convert import unread
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.conversion import recognise
from vdiffsr_jax.conversion.buffers import buffers
from vdiffsr_jax.conversion.convert import Part, configure, convert
from vdiffsr_jax.conversion.original_names import original_names
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.weights.lazy_array import LazyArray

ALL = {**CONFIGS, "musiq": kinds.parse_config("musiq", {}), "clip_iqa": kinds.parse_config("clip_iqa", {})}
TOLD: dict[str, Any] = {**SETTINGS, "swin_unet": {"schedule": {}}, "musiq": {"trained_on": "koniq"}, "clip_iqa": {}}


def array(shape: tuple[int, ...]) -> LazyArray:
    return LazyArray(shape, np.dtype(np.float32), unread)


@functools.cache
def tensors(kind: str) -> dict[str, LazyArray]:
    config = ALL[kind]
    flat = flatten(kinds.network(kind, kind, config).abstract)
    names = original_names(recognise.KINDS[kind].table(config), flat)
    made = {name: array(flat[path].shape).laid_out(op.inverse) for name, (path, op) in names.items()}
    return made | {name: LazyArray.of(value) for name, value in buffers(kind, config).items()}


class Asked(dict[str, tuple[int, ...]]):
    """Remembers whose shapes were looked at."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> tuple[int, ...]:
        self.names.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("kind", list(ALL))
def test_every_shape_that_is_looked_at_may_be_odd(kind: str):
    shapes = Asked({name: tensor.shape for name, tensor in tensors(kind).items()})
    recognise.KINDS[kind].infer(shapes, **TOLD[kind])
    assert len(shapes.names) > 2
    assert configure(Part(Path("f"), "", kind, tensors(kind)), None, TOLD[kind])[0] == ALL[kind]
    refused = tried = 0
    for name in shapes.names:
        rank = len(shapes[name])
        for odd in {(), (5,), (0,) * rank, (1,) * (rank + 1), (7,) * rank, (2**40,) * rank}:
            tried += 1
            try:
                convert(Part(Path("f"), "", kind, tensors(kind) | {name: array(odd)}), settings=TOLD[kind])
            except (ConversionError, ConfigError):
                refused += 1
    assert refused == tried


def test_a_number_in_a_name_may_be_any():
    for number in ("99999999999", "9" * 5000):
        part = Part(Path("f"), "", "var", tensors("var") | {f"blocks.{number}.x": array((1,))})
        with pytest.raises(ConversionError, match=r"in \d+ tensors|do not have the shapes of a VAR transformer"):
            configure(part, None, {"patch_nums": [1, 2, 4]})


@pytest.mark.parametrize("kind", list(ALL))
def test_a_setting_may_be_called_as_an_argument_is(kind: str):
    with pytest.raises(ConfigError, match="unknown setting 'shapes'"):
        configure(Part(Path("f"), "", kind, tensors(kind)), None, TOLD[kind] | {"shapes": 1})
