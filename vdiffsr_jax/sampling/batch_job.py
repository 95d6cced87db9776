"""Many photos: while one is computed, the next is read and the one before is written."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vdiffsr_jax.metrics.psnr_ssim import luma, psnr, ssim
from vdiffsr_jax.metrics.report import Report
from vdiffsr_jax.photos import write
from vdiffsr_jax.photos.photo import MAX_PIXELS, ImageError, Photo
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.photos.resample import lanczos
from vdiffsr_jax.photos.sheet import before_and_after
from vdiffsr_jax.sampling.files import Task
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

_READ_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Output:
    """What is written for each photo: `scale` of the result, JPEG/WebP `quality`, comparison sheets below a folder."""

    scale: float = 4.0
    quality: int = 95
    compare: Path | None = None
    skip_existing: bool = False
    max_pixels: int = MAX_PIXELS


class BatchJob:
    """Upscales tasks in order; a photo that fails is reported and does not stop the others.

    `failures`: (name, why) of photos. `report`: scores against `references`, by name, cropped by `border` pixels.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        settings: Settings,
        output: Output,
        progress: Progress,
        references: dict[str, Path] | None = None,
    ) -> None:
        self._upscaler, self._settings, self._output = upscaler, settings, output
        self._progress, self._references = progress, references
        self.failures: list[tuple[str, str]] = []
        self.done = self.skipped = 0
        self.border = upscaler.config.scale
        self.report = Report(
            ("PSNR", "SSIM"),
            f"PSNR and SSIM on Y of YCbCr (BT.601, 16..235, not rounded), peak 255, {self.border} pixels cropped on "
            "every side, SSIM with an 11x11 Gaussian window of sigma 1.5",
        )

    def run(self, tasks: Iterable[Task]) -> None:
        """Every task, read, computed and written side by side.

        Raises: SamplingError, DeviceMemoryError; KeyboardInterrupt after what is being written was finished.
        """
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            writing: Future[None] | None = None
            try:
                photos = self._read_ahead(reader, tasks)
                inside: deque[tuple[Task, Photo]] = deque()
                while True:
                    images_in = self._feed(photos, inside, again=list(inside))
                    inside.clear()
                    try:
                        for result in self._upscaler.stream(images_in, self._settings, self._progress.computed):
                            task, photo = inside.popleft()
                            if writing is not None:
                                writing.result()
                            writing = writer.submit(self._finish, task, photo, result)
                        break
                    except MemoryError:  # of the last that entered; those before it start again
                        if not inside:
                            raise
                        task, photo = inside.pop()
                        size = f"{photo.color.shape[1]} x {photo.color.shape[0]}"
                        self._fail(task, f"needs more memory than this machine has ({size} pixels)")
                if writing is not None:
                    writing.result()
                self.report.rows = dict(sorted(self.report.rows.items()))
            except BaseException:
                reader.shutdown(wait=False, cancel_futures=True)
                writer.shutdown(wait=True, cancel_futures=True)
                raise

    def _read_ahead(self, reader: ThreadPoolExecutor, tasks: Iterable[Task]) -> Iterator[tuple[Task, Future[Photo]]]:
        ahead: deque[tuple[Task, Future[Photo]]] = deque()
        for task in tasks:
            if self._output.skip_existing and task.target.exists():
                self._skip(task)
                continue
            ahead.append((task, reader.submit(read, task.source, max_pixels=self._output.max_pixels)))
            if len(ahead) > _READ_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _feed(
        self,
        photos: Iterator[tuple[Task, Future[Photo]]],
        inside: deque[tuple[Task, Photo]],
        again: list[tuple[Task, Photo]],
    ) -> Iterator[np.ndarray]:
        """The pixels of every photo that can be read; `inside` keeps what has entered and not come back."""
        for entry in again:
            inside.append(entry)
            yield entry[1].color
        for task, future in photos:
            try:
                photo = future.result()
            except (ImageError, MemoryError) as error:
                self._fail(task, str(error) or "needs more memory than this machine has")
                continue
            for note in photo.notes:
                self._progress.message(f"{task.name}: {note}")
            inside.append((task, photo))
            self._progress.opened(self._upscaler.grid(photo.color.shape[0], photo.color.shape[1], self._settings).count)
            yield photo.color

    def _finish(self, task: Task, photo: Photo, result: np.ndarray) -> None:
        """Resample, write, compare, score: all of it off the main thread."""
        try:
            scale = self._output.scale
            height, width = (max(round(n * scale), 1) for n in photo.color.shape[:2])
            final = lanczos(result, height, width)
            alpha = None if photo.alpha is None else lanczos(photo.alpha, height, width)
            big = dataclasses.replace(photo, color=final, alpha=alpha)
            for note in write.write(task.target, big, task.format, quality=self._output.quality):
                self._progress.message(f"{task.name}: {note}")
            if self._output.compare is not None:
                path = (self._output.compare / Path(task.name).parent / task.target.name).with_suffix(".png")
                write.write(path, Photo(before_and_after(photo.color, final)), "png")
            self._score(task, final)
        except (ImageError, MemoryError) as error:
            self._fail(task, str(error) or "needs more memory than this machine has")
            return
        self.done += 1
        self._progress.finished()

    def _skip(self, task: Task) -> None:
        try:
            if self._references:
                self._score(task, read(task.target, max_pixels=None).color)
        except ImageError as error:
            self._fail(task, f"its existing result {error}")
            return
        self.skipped += 1
        self._progress.finished()

    def _score(self, task: Task, result: np.ndarray) -> None:
        if self._references is None:
            return
        path = self._references.get(task.name)
        if path is None:
            raise ImageError("was upscaled, but has no reference of its name")
        try:
            reference = read(path, max_pixels=None).color
            border = (slice(self.border, -self.border),) * 2
            a, b = luma(result)[border], luma(reference)[border]
            self.report.add(task.name, {"PSNR": psnr(a, b), "SSIM": ssim(a, b)})
        except ValueError as error:
            raise ImageError(f"was upscaled, but not compared with {path}: {error}") from error

    def _fail(self, task: Task, why: str) -> None:
        self.failures.append((task.name, why))
        self._progress.message(f"{task.name}: {why}")
        self._progress.finished()
