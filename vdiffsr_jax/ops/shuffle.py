"""Pixels to channels and back: networks whose convolutions run below the image's resolution."""

from __future__ import annotations

from jaxtyping import Array, Shaped


def pixels_to_channels(
    image: Shaped[Array, "batch height width channels"], size: int
) -> Shaped[Array, "batch height//{size} width//{size} {size}**2*channels"]:
    """Patches of size x size pixels as pixels; channels run over rows, columns, channels of a patch.

    Raises: ValueError if a side does not divide by `size`.
    """
    b, h, w, c = image.shape
    if h % size or w % size:
        raise ValueError(f"an image of {h}x{w} pixels must divide into patches of {size}")
    patches = image.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(b, h // size, w // size, -1)


def channels_to_pixels(
    x: Shaped[Array, "batch height width channels"], size: int
) -> Shaped[Array, "batch height*{size} width*{size} channels//{size}**2"]:
    """Inverse of `pixels_to_channels`.

    Source: Efficient Sub-Pixel Convolutional Neural Network (arXiv:1609.05158), eq. 4.
    """
    b, h, w, c = x.shape
    pixels = x.reshape(b, h, w, size, size, c // size**2).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(b, h * size, w * size, -1)
