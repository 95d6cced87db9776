"""Held-out images that never change: metrics of the averaged model, and a grid to look at."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.metrics.catalog import Measure
from vdiffsr_jax.metrics.psnr_ssim import eight_bit, psnr_y
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.photos import sheet
from vdiffsr_jax.training import named
from vdiffsr_jax.training.feed import open_batches
from vdiffsr_jax.training.optim import Flat, Metrics
from vdiffsr_jax.training.sharding import Layout
from vdiffsr_jax.training.step import Batch
from vdiffsr_jax.training.tasks.task import Task, upsampled


class WholePictures(Protocol):
    """Pairs of whole LR and HR pictures, opened: a model in memory at work on them, as its users see it."""

    def __call__(
        self, config: Any, items: dict[str, Params], *, steps: int, dtype: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(the picture that the model of `config` and `items` makes of LR, HR), (4h, 4w, 3) uint8."""
        ...


_COLUMNS = ("LR", "bicubic", "LR's codes", "ours", "HR's codes", "HR")  # of the grid, as far as there are such
OpenPairs = Callable[[str, str], WholePictures]  # folders of HR and of LR; raises ConfigError


def whole_pictures(task: Task[Any, Any], open_pairs: OpenPairs | None) -> WholePictures | None:
    """The pictures of eval.pairs, if there are any. Raises: ConfigError if they cannot be used, or not by this run."""
    cfg = task.cfg.eval.pairs
    if cfg is None or not task.cfg.eval.every:
        return None
    if not task.sampling_steps:
        raise ConfigError(f"eval.pairs: task {task.cfg.task} makes no pictures of LR pictures alone")
    if (processes := jax.process_count()) > 1:
        raise ConfigError(
            f"eval.pairs needs a single process and this run has {processes}: leave it out and judge WORKDIR/best "
            "with evaluate.py --hr --lr"
        )
    if open_pairs is None:
        raise ConfigError("eval.pairs: nothing here upscales whole pictures; use train.py or vdiffsr_jax.train")
    return open_pairs(cfg.hr, cfg.lr)


def draw_grid(columns: Mapping[str, np.ndarray]) -> Image.Image:
    """A row per image of {title: (n, h, w, 3) uint8}; smaller ones are enlarged pixel by pixel to the last."""
    n, height = list(columns.values())[-1].shape[:2]
    shown = {title: [sheet.repeat(image, height // image.shape[0]) for image in column]
             for title, column in columns.items()}  # fmt: skip
    return sheet.draw([[("" if row else title, images[row]) for title, images in shown.items()] for row in range(n)])


class HeldOut:
    """Judges a model on a few batches (each process its own part of every batch), by `measures` too.

    Those are computed by every process for all pictures, so that all agree; `pairs` by the only process there is.
    Raises on construction: ConfigError if there are no held-out images.
    """

    def __init__(
        self,
        task: Task[Any, Any],
        layout: Layout,
        key: jax.Array,
        measures: Sequence[Measure],
        pairs: WholePictures | None,
    ) -> None:
        cfg, rows = task.cfg, task.cfg.eval.grid_rows
        if not cfg.data.has_valid:
            raise ConfigError(
                "eval.every is set but data.valid_sources is empty: name held-out photos or set eval.every=0"
            )
        self.task = task
        self.pairs = pairs
        with contextlib.closing(open_batches(cfg, "valid")) as batches:
            found = itertools.islice(batches, cfg.eval.batches)
            self.batches = [layout.put_batch({n: part for n, part in batch.items() if n != "index"}) for batch in found]
        self.key = key
        self.measures = measures

        def as_picture(image: jax.Array) -> jax.Array:
            return eight_bit(image).astype(jnp.uint8)

        def evaluate(flat: Flat, batch: Batch, key: jax.Array) -> tuple[Metrics, Metrics, list[jax.Array]]:
            image, metrics, shown = task.evaluate(flat, batch, key)
            hr = batch["hr"]
            metrics["psnr_y"] = psnr_y(image, hr)
            columns = {"ours": image, "HR": hr, **(shown or {})}
            if "lr" in batch:
                enlarged = upsampled(batch)
                metrics["bicubic_psnr_y"] = psnr_y(enlarged, hr)
                columns |= {"LR": batch["lr"], "bicubic": enlarged}
            means = {name: values.mean() for name, values in metrics.items()}
            pictures = [as_picture(x) for x in (image, hr)] if measures else []
            return means, {name: as_picture(column[:rows]) for name, column in columns.items()}, pictures

        self.evaluate = jax.jit(evaluate, out_shardings=layout.whole)

    def metrics(self, abstract: Any) -> list[str]:
        """Names of what is measured, from the parameters' shapes alone."""
        own = jax.eval_shape(self.evaluate, abstract, self.batches[0], self.key)[0]
        keys = [measure.metric.key for measure in self.measures]
        return [*own, *keys, *(f"{named.PAIRS}{key}" for key in keys if self.pairs)]

    def __call__(self, flat: Flat) -> tuple[dict[str, float], Image.Image]:
        """({metric: mean over all held-out images}, the grid of the first batch)."""
        rows: list[dict[str, float]] = []
        columns: dict[str, jax.Array] = {}
        pictures: list[tuple[np.ndarray, np.ndarray]] = []
        for i, batch in enumerate(self.batches):
            means, shown, made = self.evaluate(flat, batch, jax.random.fold_in(self.key, i))
            pictures += zip(*jax.device_get(made), strict=True)
            rows.append({name: float(value) for name, value in jax.device_get(means).items()})
            columns = columns or shown
        grid = draw_grid({name: np.asarray(columns[name]) for name in _COLUMNS if name in columns})
        own = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        return own | named.means(self.measures, pictures) | self._of_pairs(flat), grid

    def _of_pairs(self, flat: Flat) -> dict[str, float]:
        if self.pairs is None:
            return {}
        _, config, items = self.task.export(flat)
        made = self.pairs(config, items, steps=self.task.sampling_steps, dtype=self.task.cfg.dtype)
        return {f"{named.PAIRS}{key}": value for key, value in named.means(self.measures, made).items()}
