"""The one training loop: data in, steps, lines, held-out pictures, checkpoints; for every task and number of hosts."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from vdiffsr_jax.config import ConfigError, first_line, to_dict
from vdiffsr_jax.ops import attention
from vdiffsr_jax.photos import sheet
from vdiffsr_jax.training import feed, named, tasks
from vdiffsr_jax.training.config import TrainConfig, check_batch
from vdiffsr_jax.training.flop_count import recomputes
from vdiffsr_jax.training.heldout import HeldOut, OpenPairs, whole_pictures
from vdiffsr_jax.training.metrics import Log, Window, progress_line
from vdiffsr_jax.training.optim import Flat, Metrics, rates
from vdiffsr_jax.training.sharding import Layout, make_mesh
from vdiffsr_jax.training.speed import Speed, Trace
from vdiffsr_jax.training.step import Batch, Compiled, TrainState, make_program
from vdiffsr_jax.training.stop import Stop
from vdiffsr_jax.training.timed import Timer, with_steps
from vdiffsr_jax.training.version import code_version
from vdiffsr_jax.training.watch import Watch
from vdiffsr_jax.training.workdir import differences, prepare, record
from vdiffsr_jax.weights import checkpoint
from vdiffsr_jax.weights.train_state import TrainCheckpoints


@dataclasses.dataclass(frozen=True)
class Outcome:
    """`interrupted`: told to stop before the last step; the same command continues."""

    step: int
    interrupted: bool


class Run:
    """One run in one directory: everything that is made once, and the loop over it.

    `timer` fixes cfg.steps while it trains, `deadline` (time.monotonic()) stops it; `program` is its step if somebody
    compiles it already; `when_steady` is called once, when nothing is left to compile and to time. `open_pairs` opens
    eval.pairs: this room does not know how whole pictures are upscaled. `watch` is told how the run goes.
    Raises on construction: ConfigError or CheckpointError if configuration, checkpoints or devices do not fit.
    """

    def __init__(
        self,
        cfg: TrainConfig,
        workdir: epath.Path,
        *,
        profile: tuple[int, int] | None = None,
        timer: Timer | None = None,
        deadline: float | None = None,
        program: Future[Compiled] | None = None,
        open_pairs: OpenPairs | None = None,
        watch: Watch | None = None,
    ):
        self.cfg = cfg
        self.watch = watch or Watch()
        self.timer, self.deadline = timer, deadline
        self.ahead = program
        self.when_steady: Callable[[], None] = lambda: None
        self.rates = rates(cfg.optimizer, cfg.steps)
        self.workdir, self.profile = workdir, profile
        self.program: jax.stages.Compiled | None = None
        self.task = tasks.make(cfg)
        self.measures = named.load(cfg) if cfg.eval.every else []
        self.pairs = whole_pictures(self.task, open_pairs)
        self.best_metric = cfg.eval.best or self.task.best
        self.rising = self.task.is_rising(self.best_metric) or named.rising(self.best_metric)
        self.best: float | None = None
        self.key = jax.random.key(cfg.seed)
        with contextlib.ExitStack() as opened:  # closed again if anything below is refused
            mesh = make_mesh(cfg.mesh)
            check_batch(cfg, mesh.size)
            self.layout = Layout(mesh, cfg.mesh)
            prepare(workdir, cfg)
            self.data = opened.enter_context(contextlib.closing(feed.open_batches(cfg, "train")))
            self.held_out = self._held_out() if cfg.eval.every else None
            self.log = opened.enter_context(contextlib.closing(Log(workdir)))
            self.checkpoints = opened.enter_context(contextlib.closing(self._checkpoints()))
            self.state, self.frozen = self._start()
            record(workdir, cfg)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Wait for what is being saved; end threads and files. Raises: CheckpointError if saving failed."""
        self._opened.close()

    def _checkpoints(self) -> TrainCheckpoints:
        keep = self.cfg.checkpoint
        return TrainCheckpoints(
            self.workdir / "checkpoints",
            every=keep.every,
            keep_last=keep.keep_last,
            keep_best=keep.keep_best if self.cfg.eval.every else 0,
            best=self.best_metric,
            rising=self.rising,
        )

    def _start(self) -> tuple[TrainState, Flat]:
        """State and frozen parameters: fresh, or from the newest checkpoint."""
        flat = self.task.load(jax.random.fold_in(self.key, 1), self._placement)
        for note in self.task.notes:
            self.log.say(note)
        params = {name: p for name, p in flat.items() if self.task.trainable(name)}
        frozen = {name: p for name, p in flat.items() if name not in params}
        if not params:
            raise ConfigError(f"task {self.cfg.task} with this configuration trains nothing")
        program = make_program(self.task, params, self.layout)
        self.train_step, self.groups = program.step, program.groups
        latest = self.checkpoints.manager.latest_step()
        if latest is None:
            return program.create(params), frozen
        del flat, params
        state, about = self.checkpoints.restore(latest, program.abstract)
        self.data.set_state(about["data"])
        self.best = self._best_in(about)
        self.log.say(f"continuing from step {latest} of {self.workdir}")
        if (before := about.get("processes", 1)) != jax.process_count():
            self.log.say(
                f"saved by {before} processes, now {jax.process_count()}: the data continues with the samples of step "
                f"{latest + 1}, divided anew"
            )
        for name, old, new in differences(about["config"], to_dict(self.cfg)):
            self.log.say(f"changed since then: {name}: {old} -> {new}")
        return state, frozen

    def _best_in(self, about: Mapping[str, Any]) -> float | None:
        """The best value so far as a checkpoint tells it, None if it is another metric's than the one that decides."""
        metric = about.get("best_metric") or about["config"]["eval"].get("best") or self.task.best
        value: float | None = about["best"]
        return value if metric == self.best_metric else None

    def _placement(self, name: str, leaf: Any) -> jax.sharding.Sharding:
        return (self.layout.parameter if self.task.trainable(name) else self.layout.frozen)(name, leaf)

    def _held_out(self) -> HeldOut:
        held_out = HeldOut(self.task, self.layout, jax.random.key(0), self.measures, self.pairs)
        known, best = held_out.metrics(self.task.abstract()), self.cfg.eval.best
        if best.startswith(("lr_", "bicubic_")):
            raise ConfigError(f"eval.best={best!r} judges the LR photo, which no training changes")
        if best and best not in known:
            raise ConfigError(f"eval.best={best!r} is not measured; known here: {', '.join(known)}")
        return held_out

    def model(self) -> Flat:
        """All parameters as they are used after training: averages where there are any."""
        return self.frozen | self.state.params | self.state.ema

    def run(self) -> Outcome:
        """Train until cfg.steps or until told to stop; either way the last state and model are saved.

        Raises: NonFiniteError; what was saved before it stays as it was.
        """
        with contextlib.closing(self):
            trace = Trace(self.workdir / "profile", self.profile)
            with self.log.keeping_traces():
                with Stop(self.deadline) as stop, contextlib.closing(trace):
                    step, measured = self._train(stop, trace)
                interrupted = step < self.cfg.steps
                self._save(step, measured, force=True)
                if not interrupted:
                    self._export(self.workdir / "model")
            note = f"stopped at step {step}; the same command continues" if interrupted else f"done, step {step}"
            self.log.say(note)
        return Outcome(step, interrupted)

    def _train(self, stop: Stop, trace: Trace) -> tuple[int, dict[str, float] | None]:
        """The last step done, and what was measured after it."""
        step, first, measured = int(self.state.step), True, None
        if 0 < trace.first <= step:
            self.log.say(f"nothing is profiled: step {trace.first} lies behind, this run goes on after step {step}")
        self.watch.begin(self.workdir.name, step, self.cfg.steps)
        window = Window(self.cfg.batch_size)
        while step < self.cfg.steps and not stop.now(step, self.checkpoints):
            asked = time.monotonic()
            local = next(self.data)
            window.waited += time.monotonic() - asked
            indices = local.pop("index")
            batch = self.layout.put_batch(local)
            trace.before(step + 1)
            metrics = self._step(batch, step, window)
            step += 1
            trace.after(step, metrics)
            window.add(step, metrics, indices)
            steps = self.timer.after(step, metrics) if self.timer else None
            if steps:
                self._fix(steps)
            if steps or (first and not self.timer):
                self.when_steady()
            cfg, first = self.cfg, False
            if step % cfg.log_every == 0 or step == cfg.steps:
                self._report(step, window)
            measured, before = None, self.best
            if self.held_out and (step % cfg.eval.every == 0 or step == cfg.steps):
                window.flush()
                measured = self._evaluate(step)
                window.reset()
            better = bool(cfg.checkpoint.keep_best) and self.best != before
            if better or self.checkpoints.manager.should_save(step):
                window.flush()  # nothing that is not finite is ever saved
                self._save(step, measured, force=better)
            self.watch.alive(step)
        window.flush()
        self.watch.rest()
        return step, measured

    def _fix(self, steps: int) -> None:
        """The number of steps, once it is known."""
        assert self.timer is not None
        self.cfg = with_steps(self.timer.cfg, steps)
        self.rates = rates(self.cfg.optimizer, steps)
        record(self.workdir, self.cfg)
        self.log.say(f"{steps} steps fit into this run's time")

    def _step(self, batch: Batch, step: int, window: Window) -> Metrics:
        """One step of the state; the first compiles, unless that is done or under way."""
        args = (self.state, self.frozen, batch, self.key, jnp.asarray(self.rates[step]))
        if self.program is None:
            ready = self._compiled_ahead()
            if ready is None:
                traced = self.train_step.trace(*args)
                ready = Compiled(traced, traced.lower().compile(), self.groups)
            self.program, traced = ready.program, ready.traced
            window.speed = Speed.of(traced, self._needed(traced, args), self.layout.mesh)
            window.reset()
        metrics: Metrics
        self.state, metrics = self.program(*args)
        return metrics

    def _compiled_ahead(self) -> Compiled | None:
        """The step, if it was compiled ahead and is this run's: what was promised trained may have come untrained."""
        try:
            ready = self.ahead.result() if self.ahead else None
        except Exception as error:  # noqa: BLE001  (a help, without which the run goes as well)
            self.log.say(f"the step was not compiled ahead and is now: {first_line(error)}")
            return None
        return ready if ready and ready.groups == self.groups else None

    def _needed(self, traced: jax.stages.Traced, args: tuple[Any, ...]) -> jax.stages.Traced:
        """The step as it would be with memory for everything; only traced, never compiled."""
        if not recomputes(traced.jaxpr):
            return traced
        task = tasks.make(dataclasses.replace(self.cfg, remat="none"))
        with attention.counting():
            return make_program(task, self.state.params, self.layout).step.trace(*args)

    def _report(self, step: int, window: Window) -> None:
        means = window.means()
        self.log.say(progress_line(step, self.cfg.steps, self.cfg.batch_size, means))
        self.log.scalars(step, "train", means)
        self.watch.report(self.cfg.steps, means)
        window.reset()

    def _evaluate(self, step: int) -> dict[str, float] | None:
        """What was measured; None if the metric that decides has no value (NaN)."""
        assert self.held_out is not None
        metrics, grid = self.held_out(self.model())
        self.log.scalars(step, "eval", metrics)
        self.log.say(f"step {step}  held out: " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        if jax.process_index() == 0:
            png = sheet.png(grid)
            folder = self.workdir / "grids"
            folder.mkdir(exist_ok=True)
            (folder / f"{step:07d}.png").write_bytes(png)
            self.log.image(step, "held_out", png, (grid.height, grid.width))
        value = metrics[self.best_metric]
        if math.isnan(value):
            return None
        if self.best is None or (value > self.best if self.rising else value < self.best):
            self.best = value
            self._export(self.workdir / "best")
        return metrics

    def _save(self, step: int, metrics: Mapping[str, float] | None, *, force: bool = False) -> None:
        about = {
            "config": to_dict(self.cfg),
            "code": code_version(),
            "data": self.data.get_state(),
            "best": self.best,
            "best_metric": self.best_metric,
            "processes": jax.process_count(),
        }
        if self.checkpoints.save(step, self.state, about, metrics, force=force):
            self.watch.saved(step)

    def _export(self, directory: epath.Path) -> None:
        kind, config, items = self.task.export(self.task.unrounded(self.model()))
        source = {"task": self.cfg.task, "step": int(self.state.step), "code": code_version()}
        checkpoint.save_model(directory, items, kind=kind, config=config, sources=[source], overwrite=True)
