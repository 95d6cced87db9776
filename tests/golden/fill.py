"""Deterministic weights from a parameter name (numpy only, exactly reproducible).

fill(name, shape, seed) -> float32 array.  A Philox-4x64 stream keyed by (seed, SHA-256(name))
gives raw 64-bit words (numpy guarantees that stream); each becomes a uniform on [-sqrt3, sqrt3)
(zero mean, unit variance), which is scaled by what the name and the rank say the tensor is.
Values are laid out in C order of the PyTorch shape (conv OIHW, linear out x in).
"""

import hashlib
from collections.abc import Sequence

import numpy as np

EMBEDDINGS = ("embedding.weight", "class_emb.weight", "lvl_embed.weight", "pos_1LC", "pos_start")


def fill(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    shape = tuple(int(s) for s in shape)
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    raw = np.random.Philox(key=[int(seed), key]).random_raw(int(np.prod(shape, dtype=np.int64)))
    w = ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53 * 2.0 - 1.0) * np.sqrt(3.0)
    if name.endswith("scale_mul_1H11"):  # log temperature of the l2-normed attention
        w = np.log(4.0) + 0.3 * w
    elif name.endswith(EMBEDDINGS):  # embeddings: unit variance
        w = 1.0 * w
    elif name.endswith(("relative_position_bias_table", "ada_gss")):
        w = 0.5 * w
    elif len(shape) == 1 and name.endswith(".weight"):  # norm scale
        w = 1.0 + 0.2 * w
    elif len(shape) == 1:  # bias
        w = 0.1 * w
    else:  # linear / convolution
        w = w * np.prod(shape[1:]) ** -0.5
    return w.reshape(shape).astype(np.float32)


BUFFERS = (
    "attn_mask",
    "relative_position_index",
    "zero_k_bias",
    "lvl_1L",
    "attn_bias_for_masking",
    "ema_vocab_hit_SV",
)  # not filled: they keep what the constructor computes
