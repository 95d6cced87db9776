"""The seconds of a picture are the model's own: not the reading, not the scoring, not the first one's compilation."""

from __future__ import annotations

import time

import numpy as np

from tests.pictures import dead_leaves
from vdiffsr_jax.evaluation.cases import Case, Cases
from vdiffsr_jax.evaluation.run import Method, evaluate
from vdiffsr_jax.evaluation.scores import Scorer
from vdiffsr_jax.metrics.catalog import METRICS, Measure

READING, COMPILING, COMPUTING, SCORING = 0.3, 0.4, 0.1, 0.3


def test_seconds_are_the_models_own():
    hr = dead_leaves(0, 64, 64)

    def load(name: str) -> Case:
        time.sleep(READING)
        return Case(name, hr, hr[::4, ::4])

    def score(image: np.ndarray, hr: np.ndarray) -> float:
        time.sleep(SCORING)
        return 1.0

    def opened(cases: Cases):
        waits = iter([COMPILING, COMPUTING, COMPUTING])

        def make(case: Case) -> np.ndarray:
            time.sleep(next(waits))
            return hr

        return make

    scorer = Scorer([Measure(METRICS["psnr"], score)])
    done = evaluate(
        Cases(["a", "b", "c"], load, ""), [Method("slow", opened, 1)], scorer, "", failed=print, on_sheet=[]
    )
    assert COMPUTING <= done.seconds["slow"] < READING
    assert set(done.seconds) == {"slow"}  # bicubic samples nothing
