"""Hostile pickles: each is refused by the name it asks for, and nothing of it runs."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pathlib
import pickle
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.torch_writer import archive, legacy_around, text
from vdiffsr_jax.conversion import torch_file
from vdiffsr_jax.conversion.pickle_reader import Opaque, PickleError, load
from vdiffsr_jax.weights.lazy_array import WeightsFileError


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Plain:
    def __init__(self):
        self.x = 1


def hostile(canary: Path) -> dict[str, tuple[bytes, str]]:
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    run = Calls(os.system, command)
    system = f"{os.system.__module__}.system"
    name = text("builtins") + b"\x94" + text("eval") + b"\x94"
    return {
        "os.system": (pickle.dumps(run, 2), system),
        "os.system by text": (pickle.dumps(run, 0), system),
        "os.system by stack": (pickle.dumps(run, 4), system),
        "eval": (pickle.dumps(Calls(eval, code), 4), "builtins.eval"),
        "exec": (pickle.dumps(Calls(exec, code), 2), "__builtin__.exec"),
        "getattr": (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
        "nested": (pickle.dumps({"state_dict": [Calls(collections.OrderedDict, [run])]}, 2), system),
        "a class": (pickle.dumps(Plain(), 2), "copy_reg._reconstructor|Plain"),
        "a class by newobj": (pickle.dumps(Plain(), 4), "Plain"),
        "by memo": (b"\x80\x04" + name + b"0" + b"0" + b"h\x00h\x01\x93" + text(code) + b"\x85R.", "builtins.eval"),
        "inst": (b"(" + text(command) + b"ios\nsystem\n.", "os.system"),
        "obj": (b"(cos\nsystem\n" + text(command) + b"o.", "os.system"),
        "a call of an allowed name's result": (b"ccollections\nOrderedDict\n)R" + text(code) + b"\x85R.", "dict"),
        "a call of a storage type": (b"ctorch\nFloatStorage\n)R.", "torch.FloatStorage"),
        "an attribute path": (
            b"\x80\x04" + text("torch._utils") + text("os.system") + b"\x93.",
            "torch._utils.os.system",
        ),
        "attributes of a number": (b"I1\n}b.", "attributes of a int"),
        "an extension": (b"\x82\x01.", "EXT1"),
        "a persistent id by text": (b"P0\n.", "PERSID"),
        "a foreign persistent id": (text("x") + b"Q.", "no tensor storage"),
        "newobj": (b"ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
        "numpy's load": (b"cnumpy\nload\n" + text("x") + b"\x85R.", "numpy.load"),
        "torch.load": (b"ctorch\nload\n" + text("x") + b"\x85R.", "torch.load"),
        "a codec": (b"c_codecs\nencode\n(" + text("x") + text("rot13") + b"tR.", "byte string"),
    }


@pytest.mark.parametrize("case", list(hostile(Path("x"))))
def test_refused_by_name_and_nothing_runs(tmp_path: Path, case: str):
    canary = tmp_path / "canary"
    data, names = hostile(canary)[case]
    path = archive(tmp_path / "evil.pth", {"data.pkl": data})
    with pytest.raises(WeightsFileError) as caught:
        torch_file.read(path)
    assert any(name in str(caught.value) for name in names.split("|")), str(caught.value)
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path):
    """The cases above do what they claim where a pickle is trusted."""
    canary = tmp_path / "canary"
    pickle.loads(hostile(canary)["eval"][0])
    assert canary.exists()
    canary.unlink()
    pickle.loads(hostile(canary)["by memo"][0])
    assert canary.exists()


OPAQUE = {
    "argparse.Namespace": argparse.Namespace(lr=0.1, out=pathlib.PosixPath("runs/x"), nested={"a": [1]}),
    "collections.defaultdict": collections.defaultdict(list, {"loss": [1.0], "map": collections.defaultdict(int)}),
    "numpy.ndarray": np.arange(4.0).reshape(2, 2),
    "pathlib.PosixPath": pathlib.PosixPath("/data/photos"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("name", list(OPAQUE))
def test_four_kinds_beside_the_tensors_are_named_and_never_built(tmp_path: Path, protocol: int, name: str):
    data = pickle.dumps({"epoch": 3, "extra": OPAQUE[name]}, protocol)
    content = torch_file.read(archive(tmp_path / "f.pth", {"data.pkl": data}))
    assert content == {"epoch": 3, "extra": Opaque(name)}
    assert torch_file.read(legacy_around(tmp_path / "old.pth", data, {})) == content


@pytest.mark.parametrize("array", [np.array(["a", "bc"]), np.array([{"a": 1}, None], object), np.zeros(0, ">f4"),
                                   np.array(3 + 4j), np.ones((2, 2), np.float32, order="F")])  # fmt: skip
def test_numpy_arrays_of_other_types_are_opaque_too(tmp_path: Path, array: np.ndarray):
    data = pickle.dumps({"extra": array}, 2)
    assert torch_file.read(archive(tmp_path / "f.pth", {"data.pkl": data})) == {"extra": Opaque("numpy.ndarray")}


def hostile_opaque(canary: Path) -> dict[str, tuple[object, str]]:
    run = Calls(os.system, f"touch {canary}")
    return {
        "in a namespace": (argparse.Namespace(x=run), "system"),
        "in an object array": (np.array([run], object), "system"),
        "as a defaultdict's value": (collections.defaultdict(int, {"a": run}), "system"),
        "as a defaultdict's factory": (collections.defaultdict(os.getcwd), "getcwd"),
        "a subclass of a path": (pathlib.PureWindowsPath("x"), "pathlib"),
        "another namespace": (types.SimpleNamespace(x=1), "types.SimpleNamespace"),
        "a date": (datetime.date(2020, 1, 1), "datetime.date"),
        "a complex number": (3 + 4j, "complex"),
    }


@pytest.mark.parametrize("case", list(hostile_opaque(Path("x"))))
def test_what_lies_in_them_is_judged_all_the_same(tmp_path: Path, case: str):
    canary = tmp_path / "canary"
    value, name = hostile_opaque(canary)[case]
    with pytest.raises(WeightsFileError, match=name):
        torch_file.read(archive(tmp_path / "evil.pth", {"data.pkl": pickle.dumps({"x": value}, 2)}))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"cargparse\nNamespace\n)R.", "calls argparse.Namespace"),
        (b"cargparse\nNamespace\n(K\x01t\x81.", "Namespace is damaged"),
        (b"ccollections\ndefaultdict\n)\x81.", "NEWOBJ"),
        (b"cpathlib\nPosixPath\n)R}b.", "sets attributes of a Opaque"),
        (b"cpathlib\nPosixPath\n(K\x01tR.", "PosixPath is damaged"),
        (b"ccollections\ndefaultdict\n(" + text("os.system") + b"tR.", "defaultdict is damaged"),
        (b"cpathlib\nPosixPath\n)R" + text("a") + b"K\x01s.", "a dict is missing"),
        (b"}cpathlib\nPosixPath\n)RK\x01s.", "a Opaque as a key"),
        (b"c__builtin__\nint\n" + text("1") + b"\x85R.", "calls __builtin__.int"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nint\n)" + text("b") + b"tR.", "array is damaged"),
        (b"cnumpy\ndtype\n" + text("V99") + b"\x85R.", "is no number"),
    ],
)
def test_opaque_values_are_made_in_their_own_way_only(tmp_path: Path, data: bytes, message: str):
    with pytest.raises(WeightsFileError, match=message):
        torch_file.read(archive(tmp_path / "f.pth", {"data.pkl": b"\x80\x02" + data}))


def test_what_is_refused_comes_with_the_line_that_resaves_it_unless_it_means_harm(tmp_path: Path):
    def message(value: object) -> str:
        with pytest.raises(WeightsFileError) as caught:
            torch_file.read(archive(tmp_path / "f.pth", {"data.pkl": pickle.dumps(value, 2)}))
        return str(caught.value)

    assert "torch.load('f.pth', map_location='cpu', weights_only=False); torch.save(" in message(Plain())
    for evil in (Calls(os.system, "x"), Calls(eval, "x"), Calls(getattr, "x", "y")):
        assert "do not open it with PyTorch either" in message(evil)
        assert "torch.load(" not in message(evil)


def read(data: bytes):
    return load(data, {}, persistent=lambda identity: identity, attributes=lambda target, state: target)


@pytest.mark.parametrize("protocol", range(5))
def test_plain_values_are_what_pickle_makes_of_them(protocol: int):
    value = {
        "a": [1, -2, 2**70, 1.5, True, False, None, "é"],
        "b": (1, (2, 3), ()),
        "c": {},
        5: [[]],
        "t": (1, 2, 3, 4),
    }
    assert read(pickle.dumps(value, protocol)) == value


def test_shared_and_recursive_lists_stay_shared():
    shared = [1]
    value = read(pickle.dumps([shared, shared], 2))
    assert value[0] is value[1]
    loop: list = []
    loop.append(loop)
    again = read(pickle.dumps(loop, 2))
    assert again[0] is again


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"0.",
        b"t.",
        b"h\x05.",
        b"}K\x01s.",
        b"K\x01K\x02.",
        b"]K\x01u.",
        b"}(K\x01u.",
        b"(.",
        b"\xff.",
        b"R.",
    ],
)
def test_damaged_pickles_are_refused(data: bytes):
    with pytest.raises(PickleError):
        read(data)


def test_a_key_that_takes_forever_to_hash_is_refused():
    """A tuple of itself twice, sixty times over, has 2^60 leaves."""
    data = b")" + b"2\x86" * 60
    start = time.monotonic()
    with pytest.raises(PickleError, match="tuple as a key"):
        read(b"}" + data + b"Ns.")
    assert time.monotonic() - start < 5
