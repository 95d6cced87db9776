"""Pairs held out of a training: a model in memory at work on whole LR pictures, as its users see it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vdiffsr_jax.config import ConfigError, VDiffSRConfig
from vdiffsr_jax.evaluation.pairs import read_whole
from vdiffsr_jax.models.build import Params
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.sampling.upscaler import Settings, Upscaler


class WholePairs:
    """LR and HR pictures of two folders, read one at a time.

    Raises: ConfigError if there are none, or one cannot be used: a run is judged on the same pictures to its end.
    """

    def __init__(self, hr: str, lr: str) -> None:
        def refuse(name: str, kind: str, why: str) -> None:
            raise ConfigError(f"eval.pairs: {name} {why}")

        try:
            self.cases = read_whole(hr, lr, refuse)
        except UsageError as error:
            raise ConfigError(f"eval.pairs: {error}") from None
        self._upscaler: Upscaler | None = None

    def __call__(
        self, config: VDiffSRConfig, items: dict[str, Params], *, steps: int, dtype: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(the model's picture, HR), (4h, 4w, 3) uint8: tiled, blended and colour-fixed by sample.py's defaults.

        The model is compiled the first time alone; `config` and `dtype` stay the same.
        """
        if self._upscaler is None:
            self._upscaler = Upscaler(config, items, dtype=dtype)
        else:
            self._upscaler.replace(items)
        made = self._upscaler.stream((case.given for case in self.cases), Settings(steps=steps))
        return ((image, case.hr) for image, case in zip(made, self.cases, strict=True))
