"""Train states on disk: state, position in the data, configuration and code version, saved without stopping the run.

A checkpoint appears whole or not at all. The last few and the best stay, by rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

from vdiffsr_jax.config import first_line
from vdiffsr_jax.weights import orbax_items
from vdiffsr_jax.weights.checkpoint import CheckpointError

_SAVING = (OSError, ValueError)  # tensorstore reports a full disk as the latter


class TrainCheckpoints:
    """Numbered train states in one directory; every process of a job calls every method.

    `best` names the metric that ranks checkpoints, `rising` says whether more of it is better. `manager` is orbax's:
    its `reached_preemption` tells all processes the same step to stop at.
    """

    def __init__(
        self, directory: epath.Path, *, every: int, keep_last: int, keep_best: int, best: str, rising: bool
    ) -> None:
        orbax_items.check_version()  # what cannot be exported in the end is not begun
        orbax_items.silence_failures()
        self.directory = directory
        policies: list[keep.PreservationPolicy] = [keep.LatestN(keep_last)]

        def score(metrics: Mapping[str, float]) -> float:  # BestN keeps the last of an ascending order
            value = metrics.get(best, math.nan)  # absent where the run has begun with another metric
            return -math.inf if math.isnan(value) else value if rising else -value

        if keep_best:
            policies.append(keep.BestN(get_metric_fn=score, n=keep_best, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            best_fn=score,  # without it no metrics are written, and the next process knows of no best
            save_interval_steps=every,
            preservation_policy=keep.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
        )
        try:
            self.manager = ocp.CheckpointManager(directory, options=options)
        except OSError as error:
            raise CheckpointError(f"{directory} cannot be written: {error.strerror or error}") from None

    def save(
        self,
        step: int,
        state: Any,
        about: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
        *,
        force: bool = False,
    ) -> bool:
        """Start saving if this step is due or `force`; returns whether it did. Writing goes on in the background.

        Args: about: JSON values beside the state: the data's position, the configuration, the code's version.
        Raises: CheckpointError if the last save failed or this one cannot start.
        """
        if self.manager.latest_step() == step:
            return False
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(dict(about)))
        try:
            return bool(self.manager.save(step, args=items, metrics=dict(metrics) if metrics else None, force=force))
        except _SAVING as error:
            raise self._not_saved(error) from error

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        """The state of `step` in the shardings of `abstract`, whatever devices saved it, and what lies beside it.

        Raises: CheckpointError if the state does not fit.
        """
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), about=ocp.args.JsonRestore())
        try:
            restored = self.manager.restore(step, args=items)
        except (ValueError, KeyError, OSError) as error:
            raise CheckpointError(
                f"{self.directory / str(step)} does not fit this configuration (what is trained, such as loss.gan or "
                "prior.train, is other than when it was saved) or is damaged: choose another --workdir, or take the "
                f"settings in {self.directory.parent / 'config.json'} back"
            ) from error
        return restored.state, restored.about

    def _not_saved(self, error: Exception) -> CheckpointError:
        whole = self.manager.latest_step()
        stays = "nothing was saved before" if whole is None else f"step {whole} is whole and the run continues there"
        return CheckpointError(f"{self.directory}: saving failed, {stays}: {first_line(error)}")

    def close(self) -> None:
        """Wait until everything is written. Raises: CheckpointError if it could not be."""
        try:
            self.manager.wait_until_finished()
        except _SAVING as error:
            raise self._not_saved(error) from error
        finally:
            self.manager.close()
