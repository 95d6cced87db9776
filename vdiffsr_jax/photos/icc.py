"""ICC profiles: what colours they are for, and conversion to sRGB where the colours cannot stay."""

from __future__ import annotations

import functools
import io

from PIL import Image, ImageCms


def space(profile: bytes) -> str:
    """The colour space of the pixels it is for, such as 'RGB', 'GRAY', 'CMYK'; empty if it is no profile."""
    return profile[16:20].decode("latin-1").strip() if profile[36:40] == b"acsp" else ""


@functools.cache
def srgb() -> bytes:
    """A profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The image in sRGB, or None if its profile is unusable."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb()))
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
