"""Hostile pickles: each is refused by the name it asks for, and nothing of it runs."""

from __future__ import annotations

import collections
import os
import pickle
import time
from pathlib import Path

import pytest

from tests.conversion.torch_writer import archive, text
from vdiffsr_jax.conversion import torch_file
from vdiffsr_jax.conversion.pickle_reader import PickleError, load
from vdiffsr_jax.conversion.rules import WeightsFileError


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
