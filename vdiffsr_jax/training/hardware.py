"""What an accelerator can do at most, from its vendor's data sheet: the ground that utilisation is measured against."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """`flops`: bfloat16 FLOP/s without sparsity. `memory`: bytes. `bandwidth`: of that memory, bytes/s."""

    name: str
    flops: float
    memory: float
    bandwidth: float


# Beginning of jax.Device.device_kind -> chip; the first that fits counts.
CHIPS = {
    "TPU v4": Chip("TPU v4", 275e12, 32 * 2**30, 1.2e12),
    "TPU v5 lite": Chip("TPU v5e", 197e12, 16 * 2**30, 0.82e12),
    "TPU v5": Chip("TPU v5p", 459e12, 95 * 2**30, 2.765e12),
    "TPU v6 lite": Chip("TPU v6e", 918e12, 32 * 2**30, 1.64e12),
    "NVIDIA A100": Chip("A100", 312e12, 80e9, 2.0e12),
    "NVIDIA H100": Chip("H100", 989e12, 80e9, 3.35e12),
    "NVIDIA H200": Chip("H200", 989e12, 141e9, 4.8e12),
    "NVIDIA B200": Chip("B200", 2250e12, 180e9, 8.0e12),
}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of that name, None if it is not in the table (a CPU, for one)."""
    return next((chip for start, chip in CHIPS.items() if device_kind.startswith(start)), None)
