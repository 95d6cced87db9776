"""Photos that wait, are upscaled one after the other, and are kept for a while; the same path as sample.py's."""

from __future__ import annotations

import dataclasses
import queue
import secrets
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from vdiffsr_jax.photos.kinds import EXTENSIONS
from vdiffsr_jax.photos.photo import ImageError, Photo
from vdiffsr_jax.photos.read import read, read_size
from vdiffsr_jax.sampling.batch_job import BatchJob, Output
from vdiffsr_jax.sampling.errors import DeviceMemoryError, SamplingError
from vdiffsr_jax.sampling.files import PhotoTask
from vdiffsr_jax.sampling.progress import Progress
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler

_TIDYING = 60  # seconds after which an idle page looks for results that are too old
_PREVIEW = 4096  # pixels of the longest side that a browser is sent


class Refused(ValueError):  # noqa: N818  (an answer, not a fault)
    """The page cannot take this; `status` is HTTP's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Limits:
    """`waiting`: photos in the queue. `kept`: seconds that a result stays."""

    megabytes: float = 50.0
    megapixels: float = 4.0
    waiting: int = 32
    kept: float = 3600.0


@dataclasses.dataclass
class Job:
    """One photo in a folder of its own. `state`: waiting, running, done, failed."""

    id: str
    folder: Path
    task: PhotoTask
    settings: Settings
    output: Output
    upscaler: Upscaler
    state: str = "waiting"
    tiles: int = 0
    done_tiles: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    finished: float | None = None


class _JobProgress(Progress):
    def __init__(self, job: Job) -> None:
        super().__init__(1, sys.stderr)
        self.close()
        self._job = job

    def expect(self, tiles: int, megapixels: float) -> None:
        self._job.tiles = tiles

    def computed(self, tiles: int) -> None:
        self._job.done_tiles = min(self._job.done_tiles + tiles, self._job.tiles)

    def message(self, text: str) -> None:
        self._job.notes.append(text.removeprefix(f"{self._job.task.name}: "))

    def trace(self, text: str) -> None:
        print(text, file=sys.stderr)


class Jobs:
    """The queue and the one thread that computes, for all `models`; every method may be called from any thread."""

    def __init__(self, models: Mapping[str, Upscaler], limits: Limits) -> None:
        self.models, self.limits = models, limits
        self.folder = Path(tempfile.mkdtemp(prefix="vdiffsr_web_"))
        self._jobs: dict[str, Job] = {}
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def add(
        self, name: str, content: bytes, model: str, settings: Settings, *, scale: float, format: str, quality: int
    ) -> Job:
        """Queue a photo. Raises: Refused if the queue is full, the photo too large or none, a setting impossible."""
        self._forget_old()
        if model not in self.models:
            raise Refused(f"there is no model {model!r} here; there are {', '.join(self.models)}")
        if format not in EXTENSIONS or not 0 < scale <= 8 or not 1 <= quality <= 100:
            raise Refused(f"format={format!r} scale={scale} quality={quality}: not possible here")
        try:
            self.models[model].check(settings)
            limit = self.limits.megapixels * 1e6
            height, width = read_size(content)
            if width * height > limit:
                raise Refused(
                    f"{name} has {width} x {height} = {width * height / 1e6:.0f} megapixels; the limit here is "
                    f"{self.limits.megapixels:g}", 413
                )  # fmt: skip
            photo = read(content, max_pixels=limit)
        except SamplingError as error:
            raise Refused(str(error)) from None
        except (ImageError, MemoryError) as error:
            raise Refused(f"{name} {error or 'needs too much memory'}") from None
        plain = Path(name.replace("\\", "/")).name or "photo"
        job_id = secrets.token_urlsafe(16)
        folder = self.folder / job_id
        target = folder / "result" / f"{Path(plain).stem[:100]}{EXTENSIONS[format]}"
        task = PhotoTask(folder / "input", target, plain, format)
        output = Output(scale=scale, quality=quality, max_pixels=limit)
        with self._lock:
            if sum(job.state == "waiting" for job in self._jobs.values()) >= self.limits.waiting:
                raise Refused(f"the queue is full ({self.limits.waiting} photos wait); try again later", 429)
            folder.mkdir()
            task.source.write_bytes(content)
            _preview(photo, folder / "before.png")
            job = self._jobs[job_id] = Job(job_id, folder, task, settings, output, self.models[model])
        self._queue.put(job)
        return job

    def get(self, job_id: str) -> Job:
        """Raises: Refused if there is none, or no longer."""
        self._forget_old()
        job = self._jobs.get(job_id)
        if job is None:
            raise Refused("there is no such photo, or no longer", 404)
        return job

    def kept(self, job_ids: Iterable[str]) -> list[Job]:
        """Those of them that are still there."""
        self._forget_old()
        return [job for job_id in job_ids if (job := self._jobs.get(job_id)) is not None]

    def status(self, job_id: str) -> dict[str, Any]:
        """What the page shows of it."""
        job = self.get(job_id)
        waiting = [other.id for other in list(self._jobs.values()) if other.state == "waiting"]
        return {
            "state": job.state,
            "before_it": waiting.index(job_id) if job_id in waiting else 0,
            "tiles": job.tiles,
            "done_tiles": job.done_tiles,
            "notes": job.notes,
            "file": job.task.target.name,
        }

    def close(self) -> None:
        """Finish the photo at hand, drop the others and every file."""
        with self._lock:
            for job in self._jobs.values():
                if job.state == "waiting":
                    job.state = "failed"
        self._queue.put(None)
        self._thread.join(timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=_TIDYING)
            except queue.Empty:  # nobody asks, and results go all the same
                self._forget_old()
                continue
            if job is None:
                return
            if job.state != "waiting":
                continue
            job.state = "running"
            try:
                batch = BatchJob(job.upscaler, job.settings, job.output, _JobProgress(job))
                batch.run([job.task])
                if not batch.failures:
                    _preview(read(job.task.target, max_pixels=None), job.folder / "after.png")
            except (ImageError, SamplingError, DeviceMemoryError, MemoryError) as error:
                job.notes.append(str(error) or "needs more memory than this machine has")
            except Exception:  # noqa: BLE001  (a fault of ours: this photo fails, the others go on)
                traceback.print_exc()
                job.notes.append("failed by a fault of this program; its log has more")
            job.finished = time.monotonic()
            job.state = "done" if (job.folder / "after.png").exists() else "failed"

    def _forget_old(self) -> None:
        now = time.monotonic()
        with self._lock:
            old = [job for job in self._jobs.values() if job.finished and now - job.finished > self.limits.kept]
            for job in old:
                del self._jobs[job.id]
                shutil.rmtree(job.folder, ignore_errors=True)


def _preview(photo: Photo, path: Path) -> None:
    """What browsers can show, whole or not at all."""
    image = Image.fromarray(photo.rgb8())
    image.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
    partial = path.with_suffix(".partial")
    image.save(partial, "PNG", compress_level=1)
    partial.replace(path)
