"""Many photos: while one is computed, the next is read and the one before is written."""

from __future__ import annotations

import dataclasses
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.metrics.report import Report
from vdiffsr_jax.metrics.rules import Rules
from vdiffsr_jax.photos import alpha, write
from vdiffsr_jax.photos.photo import MAX_PIXELS, ImageError, Photo
from vdiffsr_jax.photos.read import read, read_size
from vdiffsr_jax.photos.resample import lanczos
from vdiffsr_jax.photos.sheet import before_and_after
from vdiffsr_jax.sampling.files import PhotoTask
from vdiffsr_jax.sampling.in_flight import Failure
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

_READ_AHEAD = 2
_SIZE_READERS = 8


@dataclasses.dataclass(frozen=True)
class Output:
    """What is written for each photo: `scale` of the result, JPEG/WebP `quality`, its comparison sheet if it has any.

    `compare`: the sheets' places, see `files.sheets`. `announce`: (target, source) -> what is called with a whole file
    just before it becomes the target.
    """

    scale: float = 4.0
    quality: int = 95
    compare: Mapping[PhotoTask, Path] = dataclasses.field(default_factory=dict)
    max_pixels: float = MAX_PIXELS
    announce: Callable[[Path, Path], write.Announce] = lambda target, source: lambda file: None

    def size(self, photo: np.ndarray) -> tuple[int, int]:
        """(height, width) of a photo's result."""
        height, width = (max(round(n * self.scale), 1) for n in photo.shape[:2])
        return height, width


class BatchJob:
    """Upscales tasks in order; a photo that fails, for whatever reason, is named and does not stop the others.

    `failures`: (name, why) of photos without a result; `unscored`: of those with one, but no score. `report`: scores
    against `references`, by name.
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
        self._tiles: dict[PhotoTask, int] = {}
        self.failures: list[tuple[str, str]] = []
        self.unscored: list[tuple[str, str]] = []
        self.done = self.skipped = 0
        border = upscaler.config.scale
        self._rules = Rules("sample", "ours", border)
        self.report = Report(
            ("PSNR", "SSIM"),
            f"PSNR and SSIM on Y of YCbCr (BT.601, 16..235, not rounded), peak 255, {border} pixels cropped on "
            "every side, SSIM with an 11x11 Gaussian window of sigma 1.5",
        )

    def run(self, tasks: Sequence[PhotoTask], skip: Collection[PhotoTask] = ()) -> None:
        """Every task, read, computed and written side by side; of those in `skip` the result is there, and is scored.

        Raises: SamplingError, DeviceMemoryError; KeyboardInterrupt after what is being written was finished.
        """
        skip = frozenset(skip)
        with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
            writing: Future[None] | None = None
            try:
                self._expect([task for task in tasks if task not in skip])
                photos = self._read_ahead(reader, tasks, skip)
                inside: deque[tuple[PhotoTask, Photo]] = deque()
                pictures = self._feed(photos, inside)
                for outcome in self._upscaler.outcomes(pictures, self._settings, self._progress.computed):
                    task, photo = inside.popleft()
                    if isinstance(outcome, Failure):
                        self._fail(task, outcome.error, outcome.computed)
                        continue
                    if writing is not None:
                        writing.result()
                    writing = writer.submit(self._finish, task, photo, outcome)
                if writing is not None:
                    writing.result()
                self.report.rows = dict(sorted(self.report.rows.items()))
            except BaseException:
                reader.shutdown(wait=False, cancel_futures=True)
                writer.shutdown(wait=True, cancel_futures=True)
                raise

    def _expect(self, tasks: Sequence[PhotoTask]) -> None:
        """Count the tiles of all photos, from their headers alone."""
        with ThreadPoolExecutor(_SIZE_READERS) as pool:
            for task, size in zip(tasks, pool.map(_size, tasks), strict=True):
                height, width = size
                if 0 < height * width <= self._output.max_pixels:
                    self._tiles[task] = self._upscaler.grid(height, width, self._settings).count
                    self._progress.expect(self._tiles[task], height * width / 1e6)

    def _read_ahead(
        self, reader: ThreadPoolExecutor, tasks: Sequence[PhotoTask], skip: Collection[PhotoTask]
    ) -> Iterator[tuple[PhotoTask, Future[Photo]]]:
        ahead: deque[tuple[PhotoTask, Future[Photo]]] = deque()
        for task in tasks:
            if task in skip:
                self._skip(task)
                continue
            ahead.append((task, reader.submit(self._read, task)))
            if len(ahead) > _READ_AHEAD:
                yield ahead.popleft()
        yield from ahead

    def _read(self, task: PhotoTask) -> Photo:
        """The photo as the model shall see it, after whatever would fail in the end was refused."""
        photo = read(task.source, max_pixels=self._output.max_pixels, hint="--max_megapixels")
        write.check(task.target, *self._output.size(photo.color), task.format)
        if photo.alpha is None:
            return photo
        return dataclasses.replace(photo, color=alpha.fill_hidden(photo.color, photo.alpha))

    def _feed(
        self, photos: Iterator[tuple[PhotoTask, Future[Photo]]], inside: deque[tuple[PhotoTask, Photo]]
    ) -> Iterator[np.ndarray]:
        """The pixels of every photo that can be read; `inside` keeps what has entered and not come back."""
        for task, future in photos:
            try:
                photo = future.result()
            except Exception as error:  # noqa: BLE001  (see _fail)
                self._fail(task, error)
                continue
            for note in photo.notes:
                self._progress.message(f"{task.name}: {note}")
            inside.append((task, photo))
            yield photo.color

    def _finish(self, task: PhotoTask, photo: Photo, result: np.ndarray) -> None:
        """Resample, write, compare, score: all of it off the main thread."""
        try:
            height, width = self._output.size(photo.color)
            final = lanczos(result, height, width)
            opacity = None if photo.alpha is None else alpha.resize(photo.alpha, height, width)
            big = dataclasses.replace(photo, color=final, alpha=opacity)
            announce = self._output.announce
            for note in write.write(
                task.target, big, task.format, quality=self._output.quality, announce=announce(task.target, task.source)
            ):
                self._progress.message(f"{task.name}: {note}")
            self._compare(task, photo.color, final)
        except Exception as error:  # noqa: BLE001  (see _fail)
            self._fail(task, error, computed=self._tiles.get(task, 0))
            return
        self.done += 1
        self._progress.finished()
        self._score(task, lambda: final)

    def _compare(self, task: PhotoTask, before: np.ndarray, after: np.ndarray) -> None:
        if (path := self._output.compare.get(task)) is not None:
            sheet = Photo(before_and_after(before, after))
            write.write(path, sheet, "png", announce=self._output.announce(path, task.source))

    def _skip(self, task: PhotoTask) -> None:
        path = self._output.compare.get(task)
        if path is not None and not path.exists():
            try:
                before = read(task.source, max_pixels=self._output.max_pixels, hint="--max_megapixels").color
                self._compare(task, before, read(task.target, max_pixels=None).color)
            except Exception as error:  # noqa: BLE001  (see _fail)
                self._fail(task, error)
                return
        self.skipped += 1
        self._progress.finished()
        self._score(task, lambda: read(task.target, max_pixels=None).color)

    def _score(self, task: PhotoTask, result: Callable[[], np.ndarray]) -> None:
        if self._references is None:
            return
        path = self._references.get(task.name)
        try:
            if path is None:
                raise ImageError("has no reference of its name")
            ours, reference = result(), read(path, max_pixels=None).color
            if ours.shape != reference.shape:
                (height, width), (h, w) = reference.shape[:2], ours.shape[:2]
                raise ImageError(f"its reference {path} has {width} x {height} pixels, its result {w} x {h}")
            try:
                scores = {"PSNR": self._rules.psnr(ours, reference), "SSIM": self._rules.ssim(ours, reference)}
                self.report.add(task.name, scores)
            except ValueError as error:  # such as fewer pixels than the window has
                raise ImageError(str(error)) from error
        except Exception as error:  # noqa: BLE001  (see _why)
            why = f"not scored: {self._why(error)}"
            self.unscored.append((task.name, why))
            self._progress.message(f"{task.name}: {why}")

    def _fail(self, task: PhotoTask, error: Exception, computed: int = 0) -> None:
        """Whatever a photo raises is that photo's failure; `computed`: its tiles that came back before."""
        why = self._why(error)
        self.failures.append((task.name, why))
        self._progress.message(f"{task.name}: {why}")
        self._progress.finished(self._tiles.get(task, computed) - computed)

    def _why(self, error: Exception) -> str:
        """In one line; what nobody expected is our own fault, and its trace goes to stderr."""
        if isinstance(error, MemoryError):
            return "needs more memory than this machine has"
        if isinstance(error, ExpectedError):
            return str(error)
        self._progress.trace("".join(traceback.format_exception(error)).rstrip())
        return f"{type(error).__name__}: {error}"


def _size(task: PhotoTask) -> tuple[int, int]:
    """(height, width); (0, 0) if the header cannot be read, which is said when the photo is."""
    try:
        return read_size(task.source)
    except (ImageError, MemoryError):
        return 0, 0
