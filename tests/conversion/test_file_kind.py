"""What a file is shows in its content, whatever its name: read, or said with what to do."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.conversion.torch_writer import save, save_legacy
from vdiffsr_jax.conversion import shards, weights_file
from vdiffsr_jax.weights.lazy_array import WeightsFileError

A, B = np.zeros(2, np.float32), np.ones(3, np.float32)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1241234567\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title>"


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".SAFETENSORS", ".PTH", ""])
@pytest.mark.parametrize("write", [save, save_legacy, lambda path, value: save_file(value, path)])
def test_any_format_is_read_under_any_name(tmp_path: Path, suffix: str, write):
    path = tmp_path / f"weights{suffix}"
    write(path, {"a.w": A, "b.w": B})
    assert set(weights_file.read(path)[""]) == {"a.w", "b.w"}


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w-00001-of-00002.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "a Git LFS pointer that stands for 1,241,234,567 bytes.*git lfs pull"),
        (b"\xef\xbb\xbf" + POINTER.replace(b"\n", b"\r\n"), "a Git LFS pointer"),
        (PAGE.encode(), "a web page.*download the file itself"),
        (b"\n  " + PAGE.upper().encode(), "a web page"),
        (b"\xef\xbb\xbf" + PAGE.encode(), "a web page"),
        (b"\xff\xfe" + PAGE.encode("utf-16-le"), "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
        (gzip.compress(b"weights", mtime=0), "gzip archive: unpack"),
        (b"\x89HDF\r\n\x1a\n", "Keras"),
        (b"GGUF\x03", "GGUF"),
        (b"\x93NUMPY\x01", "NumPy array"),
        (b"\x89PNG\r\n", "a picture"),
        (b"nonsense", "neither a file of torch.save"),
        (b"", "is empty"),
        (b"sys_info" + bytes(249) + b"ustar" + bytes(300), r"first format \(a tar archive.*torch\.load"),
        (b"weights/a.pth" + bytes(244) + b"ustar" + bytes(300), "tar archive: unpack"),
        (b'{"hidden_size": 64}', "a JSON file.*no weight_map"),
        (b"{}", "a JSON file"),
        (b'{"weight_map": ', "JSON, and damaged"),
    ],
)
def test_what_is_no_weights_file_is_said_with_what_to_do(tmp_path: Path, name: str, content: bytes, message: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsFileError, match=message) as caught:
        weights_file.read(path)
    assert str(path) in str(caught.value)


def test_other_archives_and_directories_are_said_too(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("readme.txt", b"")
    with pytest.raises(WeightsFileError, match="no data"):
        weights_file.read(tmp_path / "w.pth")
    with pytest.raises(WeightsFileError, match=r"a directory.*give one of w\.pth in it"):
        weights_file.read(tmp_path)


def sharded(folder: Path, suffix: str = ".safetensors") -> tuple[Path, list[Path]]:
    """An index and its two shards."""
    name = "model" if suffix == ".safetensors" else "pytorch_model"
    files = [folder / f"{name}-{i:05}-of-00002{suffix}" for i in (1, 2)]
    for file, content in zip(files, ({"a.w": A}, {"b.w": B}), strict=True):
        save_file(content, file) if suffix == ".safetensors" else save(file, content)
    index = folder / f"{name}{suffix}.index.json"
    places = {"a.w": files[0].name, "b.w": files[1].name}
    index.write_text(json.dumps({"metadata": {"total_size": 20}, "weight_map": places}))
    return index, files


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards_are_read_whole_from_the_index_or_any_of_them(tmp_path: Path, suffix: str):
    index, files = sharded(tmp_path, suffix)
    for path in (index, *files):
        notes: list[str] = []
        assert set(weights_file.read(path, notes)[""]) == {"a.w", "b.w"}
        assert "the 2 files" in notes[0]
    digests = {weights_file.source(path)["sha256"] for path in (index, *files)}
    assert len(digests) == 1
    index.unlink()
    assert set(weights_file.read(files[1])[""]) == {"a.w", "b.w"}


def test_missing_shards_are_named(tmp_path: Path):
    index, files = sharded(tmp_path)
    files[0].unlink()
    for path in (index, files[1]):
        with pytest.raises(WeightsFileError, match=r"model-00001-of-00002\.safetensors.*[Dd]ownload"):
            weights_file.read(path)


def test_an_index_is_not_believed(tmp_path: Path):
    index, files = sharded(tmp_path)
    for places, message in (
        ({"a.w": files[0].name, "b.w": files[1].name, "c.w": files[1].name}, r"differ in 1 tensors: c\.w"),
        ({"a.w": "../../etc/passwd"}, "no file beside it"),
        ({"a.w": "..\\x"}, "no file beside it"),
        ({"a.w": ""}, "no file beside it"),
        ({"a.w": 3}, "no file beside it"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        with pytest.raises(WeightsFileError, match=message):
            weights_file.read(index)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("var_d16.pth", "var_d16"), ("UPPER.SAFETENSORS", "UPPER"), ("a.b.ckpt", "a.b"), ("noext", "noext"),
     ("var_d16-00001-of-00002.bin", "var_d16"), ("var_d16.safetensors.index.json", "var_d16")],
)  # fmt: skip
def test_a_name_without_suffix_and_number(name: str, stem: str):
    assert shards.stem(Path(name)) == stem
