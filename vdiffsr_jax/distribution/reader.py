"""Upscales photos with the exported model beside it; needs jax and numpy: `from reader import load; hr = load()(lr)`.

As a command, with Pillow too: python reader.py photo.jpg result.png
"""

import json
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.export
import numpy as np


def load(folder: str | pathlib.Path = pathlib.Path(__file__).parent) -> Callable[..., np.ndarray]:
    """upscale(image (h, w, 3) uint8, seed=0, batch=1 tiles at once) -> (4h, 4w, 3) uint8."""
    folder = pathlib.Path(folder)
    facts = json.loads((folder / "export.json").read_text())
    run = jax.jit(jax.export.deserialize(bytearray((folder / "tile.stablehlo").read_bytes())).call)
    weights = dict(np.load(folder / "weights.npz"))
    weights = jax.device_put({k: w.view(jax.numpy.bfloat16) if w.dtype == np.uint16 else w for k, w in weights.items()})
    tile, scale, stride = facts["tile"], facts["scale"], facts["tile"] - facts["overlap"]
    seam = facts["overlap"] * scale

    def upscale(image: np.ndarray, seed: int = 0, batch: int = 1) -> np.ndarray:
        h, w = (max(side, tile) for side in image.shape[:2])
        lr = (
            np.pad(image, ((0, h - image.shape[0]), (0, w - image.shape[1]), (0, 0)), "reflect") / np.float32(127.5) - 1
        )
        starts = [sorted({min(s, side - tile) for s in range(0, side - tile + stride, stride)}) for side in (h, w)]
        places = np.array([(y, x) for y in starts[0] for x in starts[1]], np.int32)
        key = np.array(divmod(seed % 2**64, 2**32), np.uint32)
        edge = np.minimum(np.arange(tile * scale), np.arange(tile * scale)[::-1]).clip(max=seam - 1) + 0.5
        ramp = (0.5 - 0.5 * np.cos(np.pi * edge / seam)).astype(np.float32)
        weight, total = np.outer(ramp, ramp)[:, :, None], np.zeros((h * scale, w * scale, 4), np.float32)
        for at in np.array_split(places, -(-len(places) // batch)):
            tiles = np.stack([lr[y : y + tile, x : x + tile] for y, x in at])
            for (y, x), hr in zip(at * scale, np.asarray(run(weights, tiles, at, key)), strict=True):
                total[y : y + tile * scale, x : x + tile * scale] += np.concatenate([hr * weight, weight], -1)
        hr = (total[..., :3] / total[..., 3:] + 1) * 127.5
        return hr.round().clip(0, 255).astype(np.uint8)[: image.shape[0] * scale, : image.shape[1] * scale]

    return upscale


if __name__ == "__main__":
    from PIL import Image

    Image.fromarray(load()(np.asarray(Image.open(sys.argv[1]).convert("RGB")))).save(sys.argv[2])
