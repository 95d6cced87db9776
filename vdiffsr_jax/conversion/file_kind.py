"""What a file is, by its content and never by its name: weights of a known format, or something to be told about."""

from __future__ import annotations

import re
from pathlib import Path

from vdiffsr_jax.conversion import npz_file, torch_legacy
from vdiffsr_jax.weights.lazy_array import WeightsFileError, reading

_MAX_HEADER = 100_000_000  # bytes of a .safetensors header; the format's own limit
_MARKUP = re.compile(rb"<(!doctype|html|head|body|!--|\?xml|error|script|meta)\b|<!--", re.IGNORECASE)
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_OTHERS = (
    (b"\x1f\x8b", "a gzip archive: unpack it, and give what is in it"),
    (b"BZh", "a bzip2 archive: unpack it, and give what is in it"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it, and give what is in it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it, and give what is in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it, and give what is in it"),
    (b"Rar!", "a RAR archive: unpack it, and give what is in it"),
    (b"\x89HDF\r\n", "an HDF5 file (Keras), not PyTorch weights: download the .pth or .safetensors file"),
    (b"GGUF", "a GGUF file, not PyTorch weights: download the .pth or .safetensors file"),
    (b"\x93NUMPY", "a NumPy array, not PyTorch weights: download the .pth or .safetensors file"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"%PDF", "a PDF document"),
)
_FIRST_FORMAT = (b"sys_info", b"pickle", b"storages", b"tensors")  # what its tar archive begins with


def recognise(path: Path) -> str:
    """safetensors, torch_zip, torch_legacy, npz, pickle (a bare one) or json.

    Raises: WeightsFileError if it cannot be opened, or saying what it is instead and what to do.
    """
    if path.is_dir():
        raise WeightsFileError(f"{path} is a directory, not a weights file{_inside(path)}")
    with reading(path), path.open("rb") as file:
        start = file.read(1024)
    if not start:
        raise WeightsFileError(f"{path} is empty: download it again")
    if start.startswith(b"PK\x03\x04"):
        return "npz" if npz_file.is_npz(start) else "torch_zip"
    if torch_legacy.is_legacy(start):
        return "torch_legacy"
    if start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") <= _MAX_HEADER:
        return "safetensors"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return "pickle"
    text = _text(start)
    if text.startswith((b"{", b"[")):
        return "json"
    raise WeightsFileError(f"{path} is {_what(path, start, text)}")


def resaving(name: str) -> str:
    """The one line that makes a file of tensors alone of any file that PyTorch itself opens."""
    return (
        'python -c "import torch; f = lambda v: {k: f(x) for k, x in v.items() if isinstance(k, (str, int)) and '
        "isinstance(x, (dict, torch.Tensor))} if isinstance(v, dict) else v; "
        f"c = torch.load({name!r}, map_location='cpu', weights_only=False); "
        "torch.save(f(c.state_dict() if hasattr(c, 'state_dict') else c), 'resaved.pth')\""
    )


def _what(path: Path, start: bytes, text: bytes) -> str:
    if text.startswith((b"version https://git-lfs", b"version https://hawser")):
        size = re.search(rb"size (\d+)", text)
        stands = f" that stands for {int(size[1]):,} bytes" if size else ""
        return f"a Git LFS pointer{stands}, not the weights: run git lfs pull, or download the file itself"
    if _MARKUP.match(text):
        return (
            "a web page, not weights: the address shows a page about the file, an error or a login; "
            "download the file itself (on GitHub and Hugging Face its raw or resolve address)"
        )
    if start[257:262] == b"ustar":
        if start[:100].split(b"\x00")[0] in _FIRST_FORMAT:
            return (
                "in PyTorch's first format (a tar archive, from before version 0.1.10). Resave it where PyTorch is "
                f"installed (this line runs what is in the file): {resaving(path.name)}"
            )
        return "a tar archive: unpack it, and give what is in it"
    for magic, what in _OTHERS:
        if start.startswith(magic):
            return what
    return f"neither a file of torch.save (no zip archive) nor .safetensors: it begins with {start[:16]!r}"


def _text(start: bytes) -> bytes:
    """The beginning as UTF-8 without byte order mark and leading space."""
    for bom, encoding in _BOMS:
        if start.startswith(bom):
            start = start[len(bom) :].decode(encoding, errors="replace").encode()
            break
    return start.lstrip()


def _inside(path: Path) -> str:
    suffixes = (".safetensors", ".index.json", ".pth", ".pt", ".ckpt", ".bin")
    found = sorted(p.name for p in path.iterdir() if p.name.lower().endswith(suffixes))
    return f": give one of {', '.join(found[:4])} in it" if found else ""
