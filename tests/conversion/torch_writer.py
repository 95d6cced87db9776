"""Writes what torch.save writes, and what it never would: files for tests, without torch."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.bool_): "BoolStorage",
}


class Raw(bytes):
    """Pickle operations to be put where a value belongs."""


def text(value: str) -> bytes:
    encoded = value.encode(errors="surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def dumps(value: Any, storages: dict[str, np.ndarray], *, view: bytes = b"") -> bytes:
    """Protocol 2 operations of plain values and numpy arrays (as tensors, whose bytes go to `storages`).

    Args: view: what the old format adds to a storage's identity.
    """
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, np.ndarray):
        key = str(len(storages))
        storages[key] = value
        kind = f"ctorch\n{STORAGES[value.dtype]}\n".encode()
        identity = b"(" + text("storage") + kind + text(key) + text("cpu") + integer(value.size) + view + b"tQ"
        strides = tuple(s // value.itemsize for s in value.strides)
        rest = b"".join(dumps(v, storages) for v in (0, value.shape, strides, False))
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + rest + b"ccollections\nOrderedDict\n)RtR"
    if isinstance(value, Mapping):
        items = (dumps(k, storages) + dumps(v, storages, view=view) for k, v in value.items())
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, tuple):
        return b"(" + b"".join(dumps(v, storages) for v in value) + b"t"
    if isinstance(value, bool) or value is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[value]
    return text(value) if isinstance(value, str) else integer(value)


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def save(path: Path, value: Any, *, byteorder: str = "little") -> Path:
    """A file as torch.save makes it."""
    storages: dict[str, np.ndarray] = {}
    pickle = b"\x80\x02" + dumps(value, storages) + b"."
    members = {"data.pkl": pickle, "byteorder": byteorder.encode(), "version": b"3\n"}
    order = {"little": "<", "big": ">"}[byteorder]
    for key, array in storages.items():
        unsigned = array.reshape(-1).view(f"u{array.itemsize}")
        members[f"data/{key}"] = unsigned.astype(unsigned.dtype.newbyteorder(order)).tobytes()
    return archive(path, members)


def archive(path: Path, members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"archive/{name}", content)
    return path


def legacy(value: Any) -> bytes:
    """A file as torch.save made it before version 1.6."""
    storages: dict[str, np.ndarray] = {}
    content = dumps(value, storages, view=b"N")
    parts = [b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", integer(1001), dumps({"little_endian": True}, {}),
             content, b"](" + b"".join(map(text, storages)) + b"e"]  # fmt: skip
    numbers = (struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return b"".join(b"\x80\x02" + part + b"." for part in parts) + b"".join(numbers)


def save_legacy(path: Path, value: Any) -> Path:
    path.write_bytes(legacy(value))
    return path


LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."


def legacy_around(path: Path, pickle: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    """The old format around any pickle; `storages` say how many numbers they claim, and hold their bytes."""
    keys = b"\x80\x02](" + b"".join(text(key) for key in storages) + b"e."
    data = b"".join(struct.pack("<q", count) + content for count, content in storages.values())
    path.write_bytes(LEGACY_START + pickle + keys + data)
    return path


def source_archive(path: Path, members: Mapping[str, bytes]) -> Path:
    """A package's .tar.gz."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def wheel(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path
