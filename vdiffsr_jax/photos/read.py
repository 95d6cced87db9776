"""Photo files in: every common kind as upright uint8 or uint16 colour with its alpha, EXIF and ICC profile."""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms, UnidentifiedImageError

from vdiffsr_jax.photos import metadata

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 32_000_000

_OPENING = threading.Lock()
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class ImageError(ValueError):
    """A photo cannot be read or written; the message says why, without the file's name."""


@dataclasses.dataclass(frozen=True)
class Photo:
    """One photo, upright.

    `color`: (h, w, 3) uint8 or uint16. `alpha`: (h, w) of the same type, not premultiplied. `grey`: the file had one
    channel. `exif`: without orientation. `notes`: what was changed in reading and the person should know.
    """

    color: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    exif: bytes | None = None
    icc: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits per value: 8 or 16."""
        return self.color.dtype.itemsize * 8


def read(path: Path, *, max_pixels: int | None = MAX_PIXELS) -> Photo:
    """Read a PNG, JPEG, WebP, BMP or TIFF by its content, whatever its name; of several pages or frames, the first.

    Raises: ImageError if it is missing, empty, foreign, truncated, damaged, of more pixels than the limit, or of a kind
        that has no faithful 8- or 16-bit RGB form.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(26)
            if not magic:
                raise ImageError("is empty")
            file.seek(0)
            # A decoder given a damaged file may raise anything at all.
            try:
                if magic[:4] in _TIFF_MAGIC:
                    return _read_tiff(file, max_pixels)
                return _read_other(file, magic, max_pixels)
            except (ImageError, MemoryError):
                raise
            except UnidentifiedImageError as error:
                raise ImageError("is not a PNG, JPEG, WebP, BMP or TIFF image, or its header is damaged") from error
            except Exception as error:
                raise ImageError(f"is truncated or damaged ({_first_line(error)})") from error
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def _read_other(file: io.BufferedReader, magic: bytes, max_pixels: int | None) -> Photo:
    with _open(file, FORMATS) as image:
        _check_size(image.width, image.height, max_pixels)
        is_16_bit_png = image.format == "PNG" and magic[24] == 16
        if not is_16_bit_png:
            image.load()
        exif, icc, orientation, notes = _describe(image)
        if not is_16_bit_png:
            return _from_pillow(image, exif, icc, orientation, notes)
        key = image.info.get("transparency")
    file.seek(0)
    pixels = imagecodecs.png_decode(file.read())
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if key is not None and pixels.shape[-1] in (1, 3):
        visible = (pixels != np.asarray(key, np.uint16).reshape(1, 1, -1)).any(-1, keepdims=True)
        pixels = np.concatenate([pixels, np.where(visible, 65535, 0).astype(np.uint16)], axis=-1)
    return _from_array(pixels, exif, icc, orientation, notes)


def _read_tiff(file: io.BufferedReader, max_pixels: int | None) -> Photo:
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        _check_size(page.imagewidth, page.imagelength, max_pixels)
        notes = ("only the first of its pages is used",) if len(tiff.pages) > 1 else ()
        dtype, icc = page.dtype, page.iccprofile
        pixels = _tiff_pixels(page) if dtype == np.uint16 else None
    if dtype not in (np.uint8, np.bool_, np.uint16):
        raise ImageError(f"holds {dtype} values; 8- and 16-bit images can be upscaled")
    file.seek(0)
    if pixels is None:
        with _open(file, ("TIFF",)) as image:
            image.load()
            exif, icc, orientation, more = _describe(image)
            return _from_pillow(image, exif, icc, orientation, notes + more)

    def tags() -> Image.Exif:  # read by itself: Pillow opens few layouts of 16 bits
        loaded = Image.Exif()
        loaded.load_from_fp(file)
        return loaded

    exif, orientation, more = _exif(tags, from_tiff=True)
    return _from_array(pixels, exif, icc, orientation, notes + more)


def _tiff_pixels(page: tifffile.TiffPage) -> np.ndarray:
    bits = page.bitspersample
    if bits != 16:
        raise ImageError(f"holds {bits}-bit values; 8- and 16-bit images can be upscaled")
    pixels = page.asarray()
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    kind = tifffile.PHOTOMETRIC(page.photometric)
    if kind not in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE):
        raise ImageError(f"is a 16-bit {kind.name} TIFF; convert it to RGB or grey first")
    colors = 3 if kind == tifffile.PHOTOMETRIC.RGB else 1
    color, extra = pixels[..., :colors], page.extrasamples
    if kind == tifffile.PHOTOMETRIC.MINISWHITE:
        color = 65535 - color
    if not extra or extra[0] == tifffile.EXTRASAMPLE.UNSPECIFIED:
        return color
    alpha = pixels[..., colors : colors + 1]
    if extra[0] == tifffile.EXTRASAMPLE.ASSOCALPHA:
        straight = np.rint(color * (65535.0 / np.maximum(alpha, 1)))
        color = np.minimum(straight, 65535).astype(np.uint16)
    return np.concatenate([color, alpha], axis=-1)


def _from_pillow(
    image: Image.Image, exif: bytes | None, icc: bytes | None, orientation: int, notes: tuple[str, ...]
) -> Photo:
    if image.mode in ("CMYK", "YCCK"):
        image, icc, more = _from_cmyk(image, icc)
        notes += more
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = image.has_transparency_data
    if image.mode == "La":
        image = image.convert("LA")
    elif image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV"):
        raise ImageError(f"has Pillow mode {image.mode}; convert it to 8- or 16-bit RGB or grey first")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        notes += ("only the first of its frames is used",)
    wanted = ("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB")
    pixels = np.asarray(image.convert(wanted))
    return _from_array(pixels.reshape(*pixels.shape[:2], -1), exif, icc, orientation, notes)


def _from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None, tuple[str, ...]]:
    if icc:
        try:
            srgb = ImageCms.createProfile("sRGB")
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if converted is not None:
                note = "its CMYK was converted to sRGB by its profile"
                return converted, ImageCms.ImageCmsProfile(srgb).tobytes(), (note,)
        except (ImageCms.PyCMSError, OSError):
            pass
    why = "its profile is unusable" if icc else "it has no profile"
    return image.convert("RGB"), None, (f"its CMYK was converted to RGB by the plain formula: {why}",)


def _from_array(
    pixels: np.ndarray, exif: bytes | None, icc: bytes | None, orientation: int, notes: tuple[str, ...]
) -> Photo:
    pixels = np.ascontiguousarray(upright(pixels, orientation))
    channels = pixels.shape[-1]
    grey = channels < 3
    color = np.repeat(pixels[..., :1], 3, axis=-1) if grey else pixels[..., :3]
    alpha = pixels[..., -1] if channels in (2, 4) else None
    return Photo(color, alpha, grey, exif, icc, notes)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (h, w, ...) turned and mirrored as EXIF orientation 1..8 asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _open(file: io.BufferedReader, formats: tuple[str, ...]) -> Image.Image:
    """Pillow's own limit of size is global and would warn or refuse below ours."""
    with _OPENING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _describe(image: Image.Image) -> tuple[bytes | None, bytes | None, int, tuple[str, ...]]:
    exif, orientation, notes = _exif(image.getexif, from_tiff=image.format == "TIFF")
    return exif, image.info.get("icc_profile") or None, orientation, notes


def _exif(tags: Callable[[], Image.Exif], *, from_tiff: bool) -> tuple[bytes | None, int, tuple[str, ...]]:
    try:
        return *metadata.read_exif(tags(), from_tiff=from_tiff), ()
    except Exception:  # noqa: BLE001  (EXIF in the wild is often damaged; the picture is what matters)
        return None, 1, ("its EXIF is damaged and was dropped",)


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise ImageError(
            f"has {width} x {height} = {width * height / 1e6:.0f} megapixels; the limit is {max_pixels / 1e6:g} "
            "(--max_megapixels)"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
