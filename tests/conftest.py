"""Every test sees eight virtual CPU devices, so that sharded code is never skipped, and strict rank promotion.

Nearly all of the suite's time is compiling, so the compiler does not optimise here (half the time), and jax 0.10's does
not write its fusions through MLIR (a third of that; later ones have no such switch): the same numbers to rounding.
`python -m tests.parity` and the benchmarks run outside pytest and see the product as users do.
"""

from __future__ import annotations

import os
import signal
from importlib.metadata import version

# The processes that tests start inherit both.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_backend_optimization_level=0",
        *(["--xla_cpu_use_fusion_emitters=false"] if version("jaxlib").startswith("0.10.") else []),
        *os.environ.get("XLA_FLAGS", "").split(),
    ]
)

import jax
import pytest

# A suite in the background of a shell inherits that Ctrl-C is ignored, and so would the commands that it interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_compilation_cache", False)  # what a test compiles is no use to its machine
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test first: begun among the last, it would keep one core waiting for the other."""
    items.sort(key=lambda item: item.path.name != "test_whole_chain.py")
