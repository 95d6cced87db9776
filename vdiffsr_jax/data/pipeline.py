"""Samples to batches: sample i is a pure function of (seed, split, i), whatever the hosts, workers and threads.

Step s of a run uses samples s * batch_size .. (s + 1) * batch_size - 1; of P processes the h-th takes the h-th of P
equal slices of every step. So a number says where a run is, and it goes on anywhere, with other worker and host counts.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.data import synthetic
from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.crops import Crops
from vdiffsr_jax.data.degradation import degrade
from vdiffsr_jax.data.photos import Broken

SPLITS = ("train", "valid")
Batch = dict[str, np.ndarray]
_ENDLESS = 2**40


class Samples:
    """Numbered samples of one split; call it with an index. `broken.count` and `too_small` say what was left out."""

    def __init__(self, cfg: DataConfig, *, seed: int, split: str = "train") -> None:
        if split not in SPLITS:
            raise ConfigError(f"split={split!r} must be one of {', '.join(SPLITS)}")
        if split == "valid" and not cfg.has_valid:
            raise ConfigError("data.valid_sources is empty: name a folder of held-out photos")
        self.cfg, self.broken = cfg, Broken()
        self._seed, self._split = seed, split
        paths, lr_paths = cfg.sources, cfg.lr_sources
        if split == "valid":
            paths, lr_paths = cfg.valid_sources, cfg.valid_lr_sources
        share = cfg.cache_megabytes * 2**20 // max(1, cfg.num_workers)
        self._crops = Crops(cfg, paths, lr_paths, self.broken, share) if paths and cfg.synthetic_fraction < 1 else None

    @property
    def too_small(self) -> int:
        """Photos smaller than a crop."""
        return self._crops.too_small if self._crops else 0

    def __call__(self, index: int) -> Batch:
        """hr (s, s, 3) and, unless degradation is none, lr (s / scale, s / scale, 3), float32 in [-1, 1]; index ()."""
        hr, lr = self.images(index)
        sample = {"hr": _signed(hr), "index": np.asarray(index, np.int64)}
        if lr is not None:
            sample["lr"] = _signed(lr)
        return sample

    def images(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """HR and LR of a sample as uint8."""
        cfg, process = self.cfg, self.cfg.process
        rng = np.random.default_rng((self._seed, SPLITS.index(self._split), index))
        margin = process.margin if process else 0
        if self._crops is None or (self._split == "train" and rng.random() < cfg.synthetic_fraction):
            region, lr, (top, left) = synthetic.picture(rng, cfg.crop_size), None, (0, 0)
        elif self._split == "train":
            region, lr, (top, left) = self._crops.draw(rng, margin)
        else:
            region, lr, (top, left) = self._crops.held_out(index, rng, margin)
        if process is not None:
            lr = degrade(region, process, rng, scale=cfg.scale)
        hr = region[top : top + cfg.crop_size, left : left + cfg.crop_size]
        if lr is None:
            return hr, None
        top, left, size = top // cfg.scale, left // cfg.scale, cfg.crop_size // cfg.scale
        return hr, lr[top : top + size, left : left + size]


def _signed(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / np.float32(127.5) - np.float32(1)


class Batches(Iterator[Batch]):
    """Endless numpy batches, made ahead by threads or worker processes (grain); each process gets its share.

    A batch: hr (b, s, s, 3) and lr (b, s / scale, s / scale, 3) float32 in [-1, 1], index (b,) int64; no lr if
    cfg.degradation is none. The split `valid` never changes: photo after photo, its centre first. The state is the
    step: it fits any worker and host count, and setting it is exact.
    Args: batch_size: of all processes together.
    Raises on construction: ConfigError, or DataError for missing, empty or unusable sources.
    """

    def __init__(
        self,
        cfg: DataConfig,
        *,
        seed: int,
        batch_size: int,
        split: str = "train",
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        if batch_size % process_count or not 0 <= process_index < process_count:
            raise ConfigError(f"batch_size={batch_size} must divide by {process_count} processes")
        self.samples = Samples(cfg, seed=seed, split=split)
        share = batch_size // process_count
        self._part = functools.partial(_part_of_step, self.samples, batch_size, process_index * share, share)
        self._step = 0
        self._iterator: Any = None

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = self._open(self._step)
        batch: dict[str, np.ndarray] = next(self._iterator)
        self._step += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """Where the next batch is, as JSON: {"step": s}."""
        return {"step": self._step}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from a state; what was made ahead is thrown away."""
        self.close()
        self._step = state["step"]

    def close(self) -> None:
        """End threads and workers; the next batch starts them again."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _open(self, start: int) -> Any:
        import grain

        cfg = self.samples.cfg
        steps = grain.MapDataset.range(start, _ENDLESS).map(self._part)
        if not cfg.num_workers:
            return iter(steps.to_iter_dataset(grain.ReadOptions(cfg.threads, cfg.prefetch)))
        _allow_workers()
        # One thread a worker: they share the processor as it is.
        options = grain.MultiprocessingOptions(cfg.num_workers, max(1, cfg.prefetch // cfg.num_workers))
        return iter(steps.to_iter_dataset(grain.ReadOptions(1, 1)).mp_prefetch(options, _end_with_parent))


def _part_of_step(samples: Samples, batch_size: int, offset: int, share: int, step: int) -> Batch:
    """A process's part of a step: `share` samples from the `offset`-th of the batch."""
    first = step * batch_size + offset
    parts = [samples(index) for index in range(first, first + share)]
    return {name: np.stack([part[name] for part in parts]) for name in parts[0]}


def _allow_workers() -> None:
    """Grain's workers read absl flags, which nobody parses here."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _end_with_parent(worker: int, workers: int) -> None:
    """Run in each worker: a parent that is killed tells nobody, so a thread waits for its end."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()
