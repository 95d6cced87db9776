"""The conversion engine is strict: every problem is found, and all are told at once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.conversion.in_memory import convert, invert
from vdiffsr_jax.conversion import perceptual, recognise
from vdiffsr_jax.conversion.rules import ConversionError, Drop, Rule
from vdiffsr_jax.conversion.torch_layers import CONV, CONV1X1, LINEAR, squeeze

TABLE = [
    Rule(r"layer\.(\d)\.weight", r"layers/\1/kernel", CONV),
    Rule(r"head\.weight", "head/kernel", LINEAR),
    Rule(r"pos", "pos", squeeze(1)),
    Drop(r".*\.mask", "recomputed"),
]
FILE = {
    "layer.0.weight": np.arange(24.0).reshape(4, 3, 2, 1),
    "head.weight": np.arange(6.0).reshape(3, 2),
    "pos": np.arange(5.0).reshape(1, 5),
    "layer.0.mask": np.zeros(3),
}
WANT = {
    "layers/0/kernel": np.empty((2, 1, 3, 4)),
    "head/kernel": np.empty((2, 3)),
    "pos": np.empty((5,)),
}


def test_convert_and_back_is_bit_equal():
    params = convert(TABLE, FILE, FILE.__getitem__, WANT, "f.pth")
    assert params["head/kernel"][1, 2] == FILE["head.weight"][2, 1]
    back = invert(TABLE, FILE, params)
    assert back.keys() == FILE.keys() - {"layer.0.mask"}
    for name, array in back.items():
        np.testing.assert_array_equal(array, FILE[name])


def test_every_problem_is_in_one_error():
    file = dict(FILE)
    del file["pos"]
    file["other"] = np.zeros(1)
    file["layer.1.weight"] = np.zeros((1, 1, 1, 1))
    with pytest.raises(ConversionError) as caught:
        convert(TABLE, file, file.__getitem__, WANT, "f.pth")
    text = str(caught.value)
    assert "f.pth does not convert" in text
    assert "other: no rule" in text
    assert "missing: pos (5,), which would fill pos" in text
    assert "unexpected: layer.1.weight" in text


def test_wrong_shapes_are_all_named():
    file = FILE | {"head.weight": np.zeros((5, 5)), "pos": np.zeros((1, 7))}
    with pytest.raises(ConversionError) as caught:
        convert(TABLE, file, file.__getitem__, WANT, "f.pth")
    assert "head.weight: gives head/kernel shape (5, 5), needs (2, 3)" in str(caught.value)
    assert "pos: gives pos shape (7,), needs (5,)" in str(caught.value)


def test_two_rules_for_one_name_are_refused():
    with pytest.raises(ConversionError, match="2 rules for this name"):
        convert([*TABLE, Rule("pos", "elsewhere")], FILE, FILE.__getitem__, WANT, "f.pth")


def test_two_names_for_one_parameter_are_refused():
    file = FILE | {"pos2": np.zeros(5)}
    with pytest.raises(ConversionError, match="already filled from pos"):
        convert([*TABLE, Rule("pos2", "pos")], file, file.__getitem__, WANT, "f.pth")


def test_no_operation_of_any_table_drops_a_number():
    """Of whatever shape: the engine compares only what comes out."""
    tables = [*perceptual.TABLES.values(), *(k.table(None) for n, k in recognise.KINDS.items() if n != "perceptual")]
    ops = {rule.op for table in tables for rule in table if isinstance(rule, Rule)}
    assert len(ops) > 8
    for op, rank in itertools.product(ops, range(6)):
        for shape in itertools.product((1, 2, 3), repeat=rank):
            numbers = np.arange(np.prod(shape)).reshape(shape)
            try:
                result = op.forward(numbers)
            except (ValueError, IndexError):  # refused
                continue
            np.testing.assert_array_equal(np.sort(result, None), numbers.reshape(-1))


def test_a_larger_kernel_than_the_networks_is_refused():
    file, table = {"conv.weight": np.ones((2, 4, 3, 3))}, [Rule(r"conv\.weight", "conv/kernel", CONV1X1)]
    with pytest.raises(ConversionError, match=r"conv\.weight: shape \(2, 4, 3, 3\) does not fit conv/kernel \(4, 2\)"):
        convert(table, file, file.__getitem__, {"conv/kernel": np.empty((4, 2))}, "f.pth")


@pytest.mark.parametrize("dtype", ["int8", "complex64", "U3"])
def test_only_floating_numbers_fill_a_parameter(dtype: str):
    file = FILE | {"pos": FILE["pos"].astype(dtype), "layer.0.mask": np.zeros(3, np.int64)}
    with pytest.raises(ConversionError, match=r"1 problems:\n  pos: is .*, needs floating numbers \(quantised\?\)"):
        convert(TABLE, file, file.__getitem__, WANT, "f.pth")
