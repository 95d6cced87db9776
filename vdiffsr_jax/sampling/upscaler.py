"""Photos of any size through a model of one tile size: cut, compute in batches, blend on the host."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vdiffsr_jax.config import COLOR_FIXES, VDiffSRConfig
from vdiffsr_jax.models import fidelity
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.runtime import compile_cache
from vdiffsr_jax.sampling import tiling
from vdiffsr_jax.sampling.bundled import BUNDLED_MODEL
from vdiffsr_jax.sampling.errors import DeviceMemoryError, SamplingError
from vdiffsr_jax.sampling.in_flight import Failure, InFlight, Tile, paste_tiles, take, with_next
from vdiffsr_jax.sampling.tile_model import SAMPLERS, TileModel, step_choices, tile_mesh
from vdiffsr_jax.weights import checkpoint, storage

_ACCELERATOR_TILES = 8
_THREADS = 4  # that round finished rows while the next tiles are blended
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a photo is upscaled.

    `sampler` matters for several steps only: ancestral draws from each posterior (ResShift), deterministic follows the
    noise-free chain that one-step students learn from (SinSR). `overlap` is 8 LR pixels, or half of a tile below 16;
    `stride` in LR pixels overrides it. `fidelity` goes from 1, the faithful student, to 0, the sharp one, in models
    that hold both. Without it, and without a `color_fix`, the checkpoint's own are taken.
    """

    steps: int = 1
    seed: int = 0
    sampler: str = "ancestral"
    overlap: int | None = None
    stride: int | None = None
    blend: str = "cosine"
    color_fix: str | None = None
    fidelity: float | None = None


class Upscaler:
    """A model ready to upscale photos x4; made by `load`."""

    def __init__(
        self,
        config: VDiffSRConfig,
        items: dict[str, Params],
        *,
        dtype: str = "float32",
        devices: Sequence[jax.Device] | int | None = None,
        batch: int | None = None,
        tile: int | None = None,
    ) -> None:
        """As `load`, from parameters in memory. LoRA and VAR's class embedding are folded into its weights.

        Raises: SamplingError for an impossible dtype, batch or tile; ValueError if the parameters do not fit.
        """
        compile_cache.use(None)
        self.tile = _check_options(config, dtype, batch, tile)
        self._given = config
        items, self.config = fold_model(items, config)
        self._model = TileModel(self.config, items, mesh=tile_mesh(_devices(devices)), dtype=jnp.dtype(dtype))
        self.batch = self._batch_size(batch)
        self._threads = ThreadPoolExecutor(_THREADS, "blend")

    def replace(self, items: dict[str, Params]) -> None:
        """Go on with other parameters of the model that this one was made from; nothing is compiled anew."""
        self._model.replace(fold_model(items, self._given)[0])

    @classmethod
    def load(
        cls,
        directory: str | Path = BUNDLED_MODEL,
        *,
        prior: str | Path | None = None,
        dtype: str = "float32",
        devices: Sequence[jax.Device] | int | None = None,
        batch: int | None = None,
        tile: int | None = None,
    ) -> Self:
        """Read an assembled checkpoint (kind vdiffsr); without a directory, the small model that the package holds.

        Args: prior: another checkpoint, or its item `pvar`, that PyramidVAR comes from. dtype: of the computation,
            float32 or bfloat16. devices: how many local devices share the tiles, or which; all by default. batch: tiles
            computed at once; by default one per CPU device, eight per accelerator. tile: LR pixels a side, only for
            models without a prior; the model's own size by default.
        Raises: checkpoint.CheckpointError, SamplingError.
        """
        kind, config, _ = checkpoint.read_config(directory)
        if kind != "vdiffsr":
            raise SamplingError(
                f"{directory} holds a {kind} network alone; assemble a model with convert_torch_weights.py --denoiser, "
                "--first-stage, --var, --tokenizer"
            )
        _check_options(config, dtype, batch, tile)
        source = storage.place(directory if prior is None else prior)
        if prior is not None:
            source = source.parent if source.name == "pvar" else source
            other_kind, other, _ = checkpoint.read_config(source)
            if config.prior is None or other_kind != "vdiffsr" or other.prior != config.prior:
                raise SamplingError(f"the prior of {source} is not the one {directory} was made for")
            if config.sharp and "pvar" in config.sharp.networks:
                raise SamplingError(f"{directory} goes from one prior to another with its fidelity: it takes no third")
        place = NamedSharding(tile_mesh(_devices(devices)), P())
        items: dict[str, Params] = {}
        if config.prior is not None:
            # Read and folded first: unfolded, it is twice as large as the rest, which must not be there then.
            items = checkpoint.load_model(source, items=["pvar"], dtype=jnp.float32, placement=place).items
            items, config = fold_model(items, config)
        rest = ["first_stage", "denoiser", *(["sharp"] if config.sharp else [])]
        items |= checkpoint.load_model(directory, items=rest, dtype=jnp.float32, placement=place).items
        return cls(config, items, dtype=dtype, devices=devices, batch=batch, tile=tile)

    def __call__(self, image: np.ndarray, steps: int = 1, seed: int = 0, **settings: object) -> np.ndarray:
        """Upscale one photo.

        Args: image: (h, w, 3) uint8 or uint16, RGB. steps: 1, 4 or all of the schedule. seed: of the noise field.
            settings: the other fields of `Settings`.
        Returns: (4h, 4w, 3) of the same dtype.
        Raises: SamplingError, DeviceMemoryError.
        """
        return next(self.stream([image], Settings(steps=steps, seed=seed, **settings)))  # type: ignore[arg-type]

    def grid(self, height: int, width: int, settings: Settings) -> tiling.Grid:
        """The tiles of a photo of this size."""
        overlap = min(8, self.tile // 2) if settings.overlap is None else settings.overlap
        stride = self.tile - overlap if settings.stride is None else settings.stride
        return tiling.Grid(height, width, self.tile, stride)

    def check(self, settings: Settings) -> None:
        """Raise SamplingError if this model cannot follow the settings."""
        choices = step_choices(self.config)
        if settings.steps not in choices:
            *fewer, last = map(str, choices)
            raise SamplingError(
                f"steps={settings.steps}: this model's schedule has {self.config.schedule.num_steps} steps; "
                f"choose {', '.join(fewer)}{' or ' if fewer else ''}{last}"
            )
        for name, allowed in (("sampler", SAMPLERS), ("blend", tiling.BLENDS), ("color_fix", COLOR_FIXES)):
            if getattr(settings, name) not in allowed and not (name == "color_fix" and settings.color_fix is None):
                raise SamplingError(f"{name}={getattr(settings, name)!r} must be one of {', '.join(allowed)}")
        try:
            fidelity.check(self.config, settings.fidelity)
        except ValueError as error:
            raise SamplingError(str(error)) from None
        if settings.stride is None and settings.overlap is not None and not 0 <= settings.overlap < self.tile:
            raise SamplingError(
                f"overlap={settings.overlap} must lie in 0..{self.tile - 1}: a tile is {self.tile} pixels"
            )
        if settings.stride is not None and not 1 <= settings.stride <= self.tile:
            raise SamplingError(f"stride={settings.stride} must lie in 1..{self.tile}: a tile is {self.tile} pixels")

    def stream(
        self, images: Iterable[np.ndarray], settings: Settings, progress: Callable[[int], None] = lambda tiles: None
    ) -> Iterator[np.ndarray]:
        """`outcomes`, where every photo must have a result.

        Raises: what the first photo without one raised: SamplingError if it is no picture or the model's numbers for
            it are not finite; DeviceMemoryError.
        """
        for outcome in self.outcomes(images, settings, progress):
            if isinstance(outcome, Failure):
                raise outcome.error
            yield outcome

    def outcomes(
        self, images: Iterable[np.ndarray], settings: Settings, progress: Callable[[int], None] = lambda tiles: None
    ) -> Iterator[np.ndarray | Failure]:
        """Upscale photos in order; their tiles share batches, and the next batch runs while one is blended.

        Each photo's result depends on itself and the seed alone, and what it raises is its own failure: where a batch
        of several photos raises, it is computed again photo by photo. `progress` is told how many tiles came back.
        The control prior.mode=shuffled gives each photo the prior of the next one, the last one that of the first.

        Raises: SamplingError for impossible settings, DeviceMemoryError.
        """
        self.check(settings)
        settings = dataclasses.replace(settings, color_fix=settings.color_fix or self.config.color_fix)
        entered: deque[InFlight] = deque()
        source = self._cut(images, settings, entered)
        waiting: deque[Tile] = deque()
        running: tuple[list[Tile], jax.Array] | None = None
        apart = 0  # so many tiles are computed photo by photo, one batch at a time
        while True:
            while len(waiting) < self.batch and (tile := next(source, None)) is not None:
                waiting.append(tile)
            if not (waiting or running or entered):
                return
            tiles = [] if apart and running else take(waiting, self.batch, one_photo=apart > 0)
            if tiles or running:
                try:
                    launched = self._launch(tiles, settings) if tiles else None
                    finished = np.asarray(running[1]) if running else np.empty(0)
                except Exception as error:  # noqa: BLE001  (it becomes the photo's)
                    tried = [*(running[0] if running else ()), *tiles]
                    running = None
                    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
                        self._halve_batch(error)
                    elif all(tile.photo is tried[0].photo for tile in tried):
                        tried[0].photo.error = error
                    else:
                        apart = len(tried)
                    waiting.extendleft(reversed(tried))
                else:
                    done, running = running, None if launched is None else (tiles, launched)
                    if done is not None:
                        apart = max(apart - len(done[0]), 0)
                        progress(paste_tiles(done[0], finished))
                waiting = deque(tile for tile in waiting if tile.photo.error is None)
            while entered and entered[0].settled:
                yield entered.popleft().outcome()

    def _cut(self, images: Iterable[np.ndarray], settings: Settings, entered: deque[InFlight]) -> Iterator[Tile]:
        pairs = with_next(images) if self.config.is_shuffled else ((image, None) for image in images)
        for image, other in pairs:
            photo = InFlight(image, other)
            entered.append(photo)
            with photo.guarded():
                photo.check()
                yield from photo.tiles(
                    self.grid(image.shape[0], image.shape[1], settings),
                    scale=self.config.scale,
                    blend=settings.blend,
                    color_fix=settings.color_fix or "none",
                    threads=self._threads,
                )

    def _launch(self, tiles: list[Tile], settings: Settings) -> jax.Array:
        filled = tiles + [tiles[-1]] * (self.batch - len(tiles))
        lr, origins = np.stack([tile.lr for tile in filled]), np.array([tile.origin for tile in filled], np.int32)
        others = [tile.prior_lr for tile in filled if tile.prior_lr is not None]
        prior_lr = np.stack(others) if others else None
        return self._model.at(settings.fidelity).launch(
            lr, origins, prior_lr=prior_lr, seed=settings.seed, steps=settings.steps, method=settings.sampler
        )

    def _batch_size(self, batch: int | None) -> int:
        devices = self._model.mesh.size
        if batch is None:
            on_cpu = self._model.mesh.devices.flat[0].platform == "cpu"
            return devices * (1 if on_cpu else _ACCELERATOR_TILES)
        return -(-batch // devices) * devices

    def _halve_batch(self, error: Exception) -> None:
        devices = self._model.mesh.size
        smaller = self._batch_size(max(self.batch // 2 // devices * devices, 1))
        if smaller >= self.batch:
            raise DeviceMemoryError(
                f"the smallest batch ({self.batch} tiles on {devices} devices) exceeds their memory; try dtype bfloat16"
            ) from error
        _log.warning("out of device memory with %d tiles at once; going on with %d", self.batch, smaller)
        self.batch = smaller


def _devices(devices: Sequence[jax.Device] | int | None) -> list[jax.Device]:
    local: list[jax.Device] = jax.local_devices()
    if devices is None:
        return local
    if isinstance(devices, int):
        if not 1 <= devices <= len(local):
            raise SamplingError(f"devices={devices}: this machine has {len(local)}")
        return local[:devices]
    return list(devices)


def _check_options(config: VDiffSRConfig, dtype: str, batch: int | None, tile: int | None) -> int:
    """The tile's side in LR pixels, after everything that can be refused before parameters are read."""
    if dtype not in ("float32", "bfloat16"):
        raise SamplingError(f"dtype={dtype!r} must be float32 or bfloat16")
    if batch is not None and batch < 1:
        raise SamplingError(f"batch={batch} must be at least 1")
    own = config.tile_size
    if tile is None or tile == own:
        return own
    if config.prior is not None:
        raise SamplingError(f"tile={tile}: this model has a prior, whose window is never resized; its tile is {own}")
    if tile < own or tile % own:
        raise SamplingError(f"tile={tile} must be a multiple of {own}")
    return tile
