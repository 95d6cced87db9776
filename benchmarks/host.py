"""How many tiles a second the host can cut, hand over and blend, with devices that answer at once.

    python -m benchmarks.host                                  64x64 -> 256x256, eight devices, 1024x1024 photos
    python -m benchmarks.host --tile 16 --photo 96 --count 2   in a moment

Nothing is computed: the devices return the same tiles again and again. What a model's devices compute faster than this
waits for the host.
"""

from __future__ import annotations

import argparse
import sys
import time
from unittest import mock

import jax
import numpy as np

from benchmarks.command import refusing
from vdiffsr_jax.config import SwinUNetConfig, VDiffSRConfig
from vdiffsr_jax.config.ranges import Count, number
from vdiffsr_jax.sampling import upscaler as upscaler_module
from vdiffsr_jax.sampling.tile_model import TileModel
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

BATCH_PER_DEVICE = 8


class InstantModel(TileModel):
    """`devices` that return grey tiles before they are asked."""

    def __init__(self, config: VDiffSRConfig, devices: int) -> None:
        self.config, self.mesh = config, mock.Mock(size=devices)
        side = config.tile_size * config.scale
        self._answer = np.zeros((devices * BATCH_PER_DEVICE, side, side, 3), np.float32)

    def at(self, share: float | None) -> InstantModel:
        return self

    def launch(self, lr: np.ndarray, origins: np.ndarray, **how: object) -> jax.Array:
        return self._answer[: len(lr)]  # type: ignore[return-value]


def instant_upscaler(config: VDiffSRConfig, devices: int) -> Upscaler:
    """The real one, without its networks."""
    with mock.patch.object(upscaler_module, "TileModel", lambda config, *_, **__: InstantModel(config, devices)):
        return Upscaler(config, {}, batch=devices * BATCH_PER_DEVICE)


def seconds_a_tile(tile: int, devices: int, photo: int, count: int) -> tuple[float, float]:
    """(wall clock, processor time) a tile of `count` photos of photo x photo pixels, after one that warms up."""
    upscaler = instant_upscaler(VDiffSRConfig(denoiser=SwinUNetConfig(image_size=tile), prior=None), devices)
    image = np.random.default_rng(0).integers(0, 256, (photo, photo, 3), np.uint8)
    settings = Settings()
    upscaler(image)
    start, busy = time.perf_counter(), time.process_time()
    for _ in upscaler.stream((image for _ in range(count)), settings):
        pass
    tiles = count * upscaler.grid(photo, photo, settings).count
    return (time.perf_counter() - start) / tiles, (time.process_time() - busy) / tiles


@refusing
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tile", type=number(Count), default=64, help="LR pixels a side (default 64)")
    parser.add_argument("--devices", type=number(Count), default=8, help="devices that share the tiles (default 8)")
    parser.add_argument("--photo", type=number(Count), default=1024, help="LR pixels a side of a photo (default 1024)")
    parser.add_argument("--count", type=number(Count), default=4, help="photos (default 4)")
    args = parser.parse_args()
    wall, busy = seconds_a_tile(args.tile, args.devices, args.photo, args.count)
    print(f"{args.tile}x{args.tile} -> {4 * args.tile}x{4 * args.tile}, {args.devices} devices: {1 / wall:.0f} tiles/s")
    print(f"{1000 * wall:.2f} ms a tile, of which the processor works {1000 * busy:.2f}")


if __name__ == "__main__":
    sys.exit(main())
