"""Photo files in: every common kind as upright uint8 or uint16 colour with its alpha and what the file says of it.

The one reader for sampling, training and evaluation: what it cannot read faithfully it refuses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vdiffsr_jax.config import first_line
from vdiffsr_jax.photos import directories, exif, icc, png, tiff
from vdiffsr_jax.photos.kinds import HOW_TO_READ, pillow_formats
from vdiffsr_jax.photos.photo import MAX_PIXELS, ImageError, Photo, upright

_OPENING = threading.Lock()
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def read(source: Path | bytes, *, max_pixels: float | None = MAX_PIXELS, hint: str = "") -> Photo:
    """Read a photo by its content, whatever its name; of several pages or frames, the first.

    PNG, JPEG, WebP, BMP, TIFF and AVIF; HEIC where pillow-heif is installed. `hint`: what raises the limit, where
    anything does.

    Raises: ImageError if it is missing, empty, foreign, truncated, damaged, of more pixels than the limit, or of a kind
        that has no faithful 8- or 16-bit RGB form.
    """

    def check(width: int, height: int) -> None:
        if max_pixels is not None and width * height > max_pixels:
            raise ImageError(
                f"has {width} x {height} = {width * height / 1e6:.0f} megapixels; the limit is {max_pixels / 1e6:g}"
                + (f" ({hint})" if hint else "")
            )

    with _opened(source) as (file, head):
        if head[:4] in directories.HEADS:
            return _read_tiff(file, check)
        return _read_other(file, head, check)


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Upright (height, width) from the header alone. Raises: ImageError."""
    with _opened(source) as (file, head):
        if head[:4] in directories.HEADS:
            tags = tiff.tags(file)
            height, width = tiff.size(tags)
            orientation = tiff.described(tags).orientation or 1
        else:
            with _header(file, pillow_formats()) as image:
                height, width = image.height, image.width
                orientation = _describe(file, image).orientation
        return (width, height) if orientation >= 5 else (height, width)


@contextlib.contextmanager
def _opened(source: Path | bytes) -> Iterator[tuple[IO[bytes], bytes]]:
    """The file and its first bytes; whatever is wrong with it becomes an ImageError."""
    head = b""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            head = file.read(32)
            if not head:
                raise ImageError("is empty")
            file.seek(0)
            # A decoder given a damaged file may raise anything at all.
            try:
                yield file, head
            except (ImageError, MemoryError):
                raise
            except UnidentifiedImageError as error:
                raise ImageError(_foreign(head)) from error
            except Exception as error:
                raise ImageError(f"is truncated or damaged ({first_line(error)})") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _foreign(head: bytes) -> str:
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return f"is a HEIC image ({HOW_TO_READ['.heic']})"
    if head[4:12] == b"ftypavif":
        return f"is an AVIF image ({HOW_TO_READ['.avif']})"
    if head[:4] == b"GIF8":
        return "is a GIF; convert it to PNG first"
    return "is not a PNG, JPEG, WebP, BMP, TIFF or AVIF image, or its header is damaged"


@dataclasses.dataclass(frozen=True)
class _Description:
    """What a file says of its picture."""

    fields: dict[str, Any]
    orientation: int = 1
    notes: tuple[str, ...] = ()


def _read_other(file: IO[bytes], head: bytes, check: Callable[[int, int], None]) -> Photo:
    with _header(file, pillow_formats()) as image:
        check(image.width, image.height)
        about = _describe(file, image)
        if not (image.format == "PNG" and head[24] == 16):
            if image.format == "PNG" and head[25] == 0 and "transparency" in image.info:
                # Grey of 2 and 4 bits: Pillow brings the pixels to 8, not the one that is transparent.
                image.info["transparency"] *= {2: 85, 4: 17}.get(head[24], 1)
            image.load()
            return _from_pillow(image, about)
        key = image.info.get("transparency")
    file.seek(0)
    pixels = png.decode_16(file.read())
    if key is not None and pixels.shape[-1] in (1, 3):
        visible = (pixels != np.asarray(key, np.uint16).reshape(1, 1, -1)).any(-1, keepdims=True)
        pixels = np.concatenate([pixels, np.where(visible, 65535, 0).astype(np.uint16)], axis=-1)
    return _photo(pixels, about)


def _read_tiff(file: IO[bytes], check: Callable[[int, int], None]) -> Photo:
    tags = tiff.tags(file)
    height, width = tiff.size(tags)
    check(width, height)
    pixels, more = tiff.pixels(file, (height, width))
    told = tiff.described(tags)
    notes: tuple[str, ...] = ("only the first of its pages is used",) if more else ()
    notes += ("a part of its EXIF is damaged and was dropped",) if told.damaged else ()
    fields = {"exif": told.exif, "density": told.density}
    fields |= {"icc": tiff.blob(tags, tiff.ICC), "xmp": tiff.blob(tags, tiff.XMP)}
    orientation = told.orientation or 1
    if pixels is not None:
        return _photo(pixels, _Description(fields, orientation, notes))
    file.seek(0)
    with _header(file, ("TIFF",)) as image:
        image.load()
        if exif.ORIENTATION not in image.getexif():  # Pillow has turned the pixels and taken the tag away
            orientation = 1
        return _from_pillow(image, _Description(fields, orientation, notes))


def _describe(file: IO[bytes], image: Image.Image) -> _Description:
    info = image.info
    chunks = png.chunks(file) if image.format == "PNG" else []
    told, xmp = exif.describe(exif.parse(None)), info.get("xmp")
    notes: tuple[str, ...] = ()
    try:
        data = png.exif(chunks) if image.format == "PNG" else info.get("exif")
        told = exif.describe(exif.parse(data))
        xmp = png.xmp(chunks) if image.format == "PNG" else xmp
        if told.damaged:
            notes = ("a part of its EXIF is damaged and was dropped",)
    except (ValueError, IndexError, zlib.error):
        notes = ("its EXIF is damaged and was dropped",)
    orientation = told.orientation
    if orientation is None and xmp and image.format != "HEIF":  # whose plugin turns the pixels by itself
        orientation = exif.xmp_orientation(xmp)
    fields = {"exif": told.exif, "icc": info.get("icc_profile") or None, "xmp": xmp or None}
    fields |= {"density": _density(image, chunks) or told.density, "chunks": png.kept(chunks)}
    return _Description(fields, orientation or 1, notes)


def _density(image: Image.Image, chunks: Sequence[tuple[bytes, bytes]]) -> tuple[float, float] | None:
    """Pixels an inch from the file's own header; Pillow makes some up where a JPEG has none."""
    if image.format == "PNG":
        return png.density(chunks)
    if image.format == "BMP":
        density = image.info.get("dpi", (0, 0))
        return density if all(density) else None
    unit = {1: 1.0, 2: 2.54}.get(image.info.get("jfif_unit", 0))
    across, down = image.info.get("jfif_density", (0, 0))
    return (across * unit, down * unit) if unit and across and down else None


def _from_pillow(image: Image.Image, about: _Description) -> Photo:
    profile = about.fields["icc"]
    if image.mode in ("CMYK", "YCCK"):
        converted = icc.to_srgb(image, profile) if profile else None
        if converted is not None:
            profile, note = icc.srgb(), "its CMYK was converted to sRGB by its profile"
        else:
            why = "its profile is unusable" if profile else "it has no profile"
            profile, note = None, f"its CMYK was converted to RGB by the plain formula: {why}"
        image = converted or image.convert("RGB")
        about = _Description(about.fields | {"icc": profile}, about.orientation, (*about.notes, note))
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = image.has_transparency_data
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode not in _MODES:
        raise ImageError(f"has Pillow mode {image.mode}; convert it to 8- or 16-bit RGB or grey first")
    if getattr(image, "n_frames", 1) > 1 and image.format not in ("MPO", "TIFF"):
        about = dataclasses.replace(about, notes=(*about.notes, "only the first of its frames is used"))
    wanted = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    pixels = np.asarray(image.convert(wanted))
    return _photo(pixels.reshape(*pixels.shape[:2], -1), about)


def _photo(pixels: np.ndarray, about: _Description) -> Photo:
    pixels = np.ascontiguousarray(upright(pixels, about.orientation))
    channels = pixels.shape[-1]
    grey = channels < 3
    color = np.repeat(pixels[..., :1], 3, axis=-1) if grey else pixels[..., :3]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    fields, notes = dict(about.fields), about.notes
    if fields["icc"] and (space := icc.space(fields["icc"])) not in (("RGB", "GRAY") if grey else ("RGB",)):
        fields["icc"] = None
        notes += (f"its ICC profile is {'for ' + space if space else 'damaged'}, its pixels are not: dropped",)
    if fields["xmp"]:
        fields["xmp"] = exif.upright_xmp(fields["xmp"])
    return Photo(color, alpha, grey, notes=notes, **fields)


@contextlib.contextmanager
def _header(file: IO[bytes], formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Pillow's own limit of size is global and would refuse below ours; its warnings are global and name no file."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image
