"""What a run tells whoever watches it: numbers for Prometheus over HTTP, and an alarm when no step ends any more."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import prometheus_client as prometheus

from vdiffsr_jax.config import ConfigError

# Metrics of a progress line that are served too, and their names there.
SERVED = {"loss": "loss", "images_per_second": "images_per_second", "data_wait": "data_wait_ratio"}


class Watch:
    """The numbers of the run in progress; a chain's runs share one.

    `stall`: so many seconds without a step, or what follows it (evaluation, saving), raise the alarm. The first step of
    a run, which compiles, may take as long as it likes, and so may what comes after the last.
    """

    def __init__(self, stall: float | None = None) -> None:
        self.stall = stall
        self.registry = prometheus.CollectorRegistry()
        self._gauges = {
            name: prometheus.Gauge(f"vdiffsr_{name}", text, registry=self.registry)
            for name, text in {
                "step": "steps done",
                "steps": "steps the run will have",
                "loss": "mean loss since the line before",
                "images_per_second": "of all processes",
                "data_wait_ratio": "part of the time that steps waited for data",
                "last_step_timestamp_seconds": "when the newest step ended",
                "last_save_timestamp_seconds": "when the newest train state was handed over to be written",
                "last_save_step": "step of that state",
                "stalled": "1 while no step ends",
            }.items()
        }
        self._run = prometheus.Gauge("vdiffsr_run", "1 for the run in progress", ["name"], registry=self.registry)
        self._lock = threading.Lock()
        self._beat: float | None = None  # time.monotonic() of the last sign of life, None where none is due

    def begin(self, name: str, step: int, steps: int) -> None:
        """A run called `name` starts, or goes on, after `step`."""
        self._run.clear()
        self._run.labels(name).set(1)
        self._set(step=step, steps=steps)

    def alive(self, step: int) -> None:
        """A step ended, with all that follows it."""
        with self._lock:
            self._beat = time.monotonic()
            self._set(step=step, last_step_timestamp_seconds=time.time(), stalled=0)

    def report(self, steps: int, means: Mapping[str, float]) -> None:
        """The numbers of a progress line, of a run that will have so many steps."""
        self._set(steps=steps, **{SERVED[name]: value for name, value in means.items() if name in SERVED})

    def saved(self, step: int) -> None:
        """A train state is being written."""
        self._set(last_save_step=step, last_save_timestamp_seconds=time.time())

    def rest(self) -> None:
        """Nothing is due until the next sign of life."""
        with self._lock:
            self._beat = None
            self._set(stalled=0)

    @property
    def stalled(self) -> bool:
        """Whether the alarm is on."""
        return self._get("stalled") > 0

    @contextlib.contextmanager
    def watching(self, port: int | None = None) -> Iterator[None]:
        """Serve /metrics and /healthz (503 while stalled) on all interfaces, and look out for stalls.

        Raises: ConfigError if the port cannot be had.
        """
        with contextlib.ExitStack() as stack:
            if port is not None:
                stack.enter_context(_serving(self, port))
            if self.stall is not None:
                stack.enter_context(self._guarded(self.stall))
            yield

    @contextlib.contextmanager
    def _guarded(self, stall: float) -> Iterator[None]:
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(min(stall / 4, 5)):
                self._alarm()

        thread = threading.Thread(target=look, name="stall alarm", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _alarm(self) -> None:
        """Say it once for each stall, with where every thread stands."""
        with self._lock:  # no step ends meanwhile
            if self.stalled or self.stall is None or self._beat is None or time.monotonic() - self._beat <= self.stall:
                return
            print(
                f"{_stacks()}train.py: stalled: no step ended in {self.stall:g} s after step {self._get('step'):.0f}",
                file=sys.stderr,
                flush=True,
            )
            self._set(stalled=1)

    def _get(self, name: str) -> float:
        return self.registry.get_sample_value(f"vdiffsr_{name}") or 0.0

    def _set(self, **values: float) -> None:
        for name, value in values.items():
            self._gauges[name].set(value)


def _stacks() -> str:
    """Where every other thread stands."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    )


@contextlib.contextmanager
def _serving(watch: Watch, port: int) -> Iterator[None]:
    metrics = prometheus.make_wsgi_app(watch.registry)

    def answer(environ: Any, start_response: Any) -> Any:
        status, text = "404 Not Found", "/metrics or /healthz"
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics(environ, start_response)
            case "/healthz":
                status, text = ("503 Service Unavailable", "stalled") if watch.stalled else ("200 OK", "ok")
        start_response(status, [("Content-Type", "text/plain")])
        return [f"{text}\n".encode()]

    try:
        server, thread = prometheus.start_http_server(port, registry=watch.registry)
    except OSError as error:
        raise ConfigError(f"--metrics_port {port}: {error.strerror or error}; choose another") from None
    server.set_app(answer)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
