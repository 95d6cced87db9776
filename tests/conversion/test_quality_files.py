"""What MUSIQ and CLIP are published in: TorchScript archives, whose program is never read, and .npz files."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.test_pickle_reader import Calls
from tests.golden.quality.recipe import MUSIQ_SIZES
from tests.models.test_quality import IO, google, musiq_state
from vdiffsr_jax.cli.convert import main
from vdiffsr_jax.conversion import recognise, torch_script, weights_file
from vdiffsr_jax.conversion.pickle_reader import PickleError
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.weights import checkpoint
from vdiffsr_jax.weights.lazy_array import WeightsFileError

SCRIPT = Path(__file__).parents[1] / "golden" / "quality" / "script.pt"


def test_a_torchscript_archive_gives_its_state_dict():
    (state,) = weights_file.read(SCRIPT).values()
    want = {name.removeprefix("script/"): IO[name] for name in IO.files if name.startswith("script/")}
    assert state.keys() == want.keys()
    assert state["visual.0.weight"].dtype == np.float16
    for name, value in want.items():
        np.testing.assert_array_equal(state[name].read(), value)


def forged(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (("data.pkl", pickled), ("constants.pkl", b""), ("version", b"3")):
            archive.writestr(f"archive/{name}", data)
    return path


MODULE = b"c__torch__\nSmall\n)\x81"


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (pickle.dumps(Calls(print, "x"), 2), "print: refused"),
        (b"\x80\x02c__torch__\nSmall\n)R.", "calls __torch__.Small: refused"),
        (b"\x80\x02c__torch__\nSmall\nK\x01\x85\x81.", "damaged"),
        (b"\x80\x02" + MODULE + b"K\x01b.", "attributes of a TorchScript module are damaged"),
        (b"\x80\x02" + MODULE + b"q\x00}X\x01\x00\x00\x00mh\x00sb.", "64 deep"),
        (b"\x80\x02}.", "holds no module"),
        (b"\x80\x02" + MODULE + b".", "no tensors"),
    ],
)
def test_a_forged_archive_is_refused(tmp_path: Path, pickled: bytes, why: str):
    with pytest.raises(WeightsFileError, match=why):
        weights_file.read(forged(tmp_path / "s.pt", pickled))


def test_modules_that_hold_each_other_many_times_are_refused():
    """Sixty of them, each twice the next one: no deeper than allowed, but 2**60 ways to the last."""
    module = torch_script.Module()
    for _ in range(60):
        module = torch_script.set_attributes(torch_script.Module(), {"a": module, "b": module})
    with pytest.raises(PickleError, match="or are more than 1000000: refused"):
        torch_script.tensors(module)


def test_a_script_of_another_network_is_not_clip():
    (state,) = weights_file.read(SCRIPT).values()
    with pytest.raises(ConversionError, match=r"script.pt is none of: .*CLIP"):
        recognise.kind_of(state, str(SCRIPT))


def test_an_npz_of_musiq_is_converted_by_its_name(tmp_path: Path, capsys):
    theirs = google(musiq_state(1))
    np.savez(tmp_path / "spaq_ckpt.npz", **theirs)
    assert main([str(tmp_path / "spaq_ckpt.npz"), "--output", str(tmp_path / "spaq")]) == 0
    assert "the optimizer's state" in capsys.readouterr().out
    kind, config, sources = checkpoint.read_config(tmp_path / "spaq")
    assert (kind, config.trained_on, config.depth) == ("musiq", "spaq", MUSIQ_SIZES["depth"])
    assert sources[0]["file"] == "spaq_ckpt.npz"
    (tmp_path / "spaq_ckpt.npz").rename(tmp_path / "mine.npz")
    assert main([str(tmp_path / "mine.npz"), "--output", str(tmp_path / "mine")]) == 1
    assert "whose opinions it was trained on. Give --preset (one of musiq_koniq" in capsys.readouterr().err


def test_an_npz_that_is_damaged_or_holds_objects_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([None]))
    with pytest.raises(WeightsFileError, match=r"a\.npy holds Python objects"):
        weights_file.read(path)
    np.savez(path, a=np.zeros(300))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(WeightsFileError, match="damaged or truncated"):
        weights_file.read(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_with_a_flipped_byte_is_damaged_when_it_is_read(tmp_path: Path, packing: int):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", packing) as archive, archive.open("a.npy", "w") as file:
        np.lib.format.write_array(file, np.random.default_rng(0).random(30_000))
    for at in (100_000, 150_000):
        data = bytearray(path.read_bytes())
        data[at : at + 40] = b"\xff" * 40
        (tmp_path / "b.npz").write_bytes(data)
        with pytest.raises(WeightsFileError, match=r"b\.npz(: Invalid data| is damaged or truncated)"):
            weights_file.read(tmp_path / "b.npz")[""]["a"].read()


def test_an_npz_that_is_encrypted_or_has_a_name_twice_is_refused(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(3))
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the local header's flags, and the directory's
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.npz").write_bytes(data)
    with pytest.raises(WeightsFileError, match="is encrypted"):
        weights_file.read(tmp_path / "b.npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a", archive.read("a.npy"))
    with pytest.raises(WeightsFileError, match=r"a\.npz holds a twice"):
        weights_file.read(path)
