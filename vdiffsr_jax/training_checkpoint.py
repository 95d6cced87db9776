"""Train states on disk: state, position in the data, configuration and code version, saved without stopping the run.

A checkpoint appears whole or not at all. The last few and the best stay, by rule.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from vdiffsr_jax.checkpoint import CheckpointError


@dataclasses.dataclass(frozen=True)
class Restored:
    """`data_restored` is False where the data's position does not fit this run: seek by the step instead."""

    step: int
    state: Any
    about: dict[str, Any]
    data_restored: bool


class TrainCheckpoints:
    """Numbered train states in one directory; every process of a job calls every method.

    `best` names the metric that ranks checkpoints, `rising` says whether more of it is better.
    """

    def __init__(
        self, directory: Path, *, every: int, keep_last: int, keep_best: int, best: str, rising: bool
    ) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)
        self.directory = directory
        policies: list[keep.PreservationPolicy] = [keep.LatestN(keep_last)]
        if keep_best:
            # BestN keeps the last of an ascending order.
            def score(metrics: Mapping[str, float]) -> float:
                return metrics[best] if rising else -metrics[best]

            policies.append(keep.BestN(get_metric_fn=score, n=keep_best, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            save_interval_steps=every,
            preservation_policy=keep.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )
        try:
            self.manager = ocp.CheckpointManager(directory.absolute(), options=options)
        except OSError as error:
            raise CheckpointError(f"{directory} cannot be written: {error.strerror or error}") from None

    def latest(self) -> int | None:
        """Number of the newest complete checkpoint."""
        return self.manager.latest_step()

    def due(self, step: int) -> bool:
        """Whether `save` at this step would save."""
        return self.manager.should_save(step)

    def preempted(self, step: int) -> bool:
        """Whether any process of the job was told to stop; all processes agree on the step."""
        return jax.process_count() > 1 and self.manager.reached_preemption(step)

    def save(
        self,
        step: int,
        state: Any,
        data: Any,
        about: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        force: bool = False,
    ) -> bool:
        """Start saving if this step is due or `force`; returns whether it did. Writing goes on in the background.

        Args: data: grain's iterator. about: JSON values that explain the numbers, such as the configuration.
        Raises: CheckpointError if the last save failed or this one cannot start.
        """
        import grain

        if self.manager.latest_step() == step:
            return False
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=grain.checkpoint.CheckpointSave(data),
            about=ocp.args.JsonSave(dict(about) | {"processes": jax.process_count()}),
        )
        try:
            return self.manager.save(step, args=items, metrics=dict(metrics) if metrics else None, force=force)
        except OSError as error:
            raise CheckpointError(f"{self.directory}: saving step {step} failed: {error}") from error

    def about(self, step: int) -> dict[str, Any]:
        """What was written beside the state."""
        return self.manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore())).about

    def restore(self, step: int, abstract: Any, data: Any, workers: int) -> Restored:
        """The state of `step` in the shardings of `abstract`, and the data moved to where it was.

        The data's position fits the same number of processes and workers only.
        Raises: CheckpointError if the state does not fit.
        """
        import grain

        about = self.about(step)
        fits = about["processes"] == jax.process_count() and about.get("workers", workers) == workers
        items = {"state": ocp.args.StandardRestore(abstract)}
        if fits:
            items["data"] = grain.checkpoint.CheckpointRestore(data)
        try:
            restored = self.manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, OSError) as error:
            first = str(error).strip().partition("\n")[0]
            raise CheckpointError(f"{self.directory}/{step} does not fit this configuration: {first}") from error
        return Restored(step, restored.state, about, fits)

    def close(self) -> None:
        """Wait until everything is written. Raises: CheckpointError if it could not be."""
        try:
            self.manager.wait_until_finished()
        except OSError as error:
            raise CheckpointError(f"{self.directory}: saving failed: {error}") from error
        finally:
            self.manager.close()
