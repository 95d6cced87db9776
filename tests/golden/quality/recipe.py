"""Deterministic weights and pictures of the reference numbers of MUSIQ and CLIPIQA."""

from __future__ import annotations

import numpy as np

from tests.golden.fill import fill

CLIP_SIZES = {"width": 8, "blocks": (1, 2, 1, 1), "embed": 32, "text_width": 64, "text_depth": 2}
MUSIQ_SIZES = {"depth": 2, "width": 128, "mlp_width": 96}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`fill`, with variances near one, embeddings and class token as large as what they are added to."""
    if name == "logit_scale":
        return np.float32(np.log(20.0))
    w = fill(name, shape, seed=22)
    if name.endswith("running_var"):
        return np.float32(1.0) + w
    if name.endswith((".position_emb", ".scale_emb", ".cls")):
        return w * np.float32(np.sqrt(np.prod(shape[1:])))
    return w * np.float32(np.sqrt(2.0)) if w.ndim == 4 else w


def picture(h: int, w: int) -> np.ndarray:
    """(h, w, 3) uint8: waves of every direction and some noise."""
    rows, columns, colours = np.mgrid[:h, :w, :3]
    waves = np.sin(rows / 7 + colours) + np.cos(columns / (5 + colours)) + np.sin(rows * columns / 900)
    noise = np.random.default_rng(h * w).normal(0, 0.2, waves.shape)
    return np.clip(128 + 40 * (waves + noise), 0, 255).astype(np.uint8)


SIZES = ((96, 160), (250, 111))
