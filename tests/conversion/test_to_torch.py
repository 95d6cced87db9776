"""What --to-torch writes of a plain ResShift or SinSR: the originals' own names and shapes, all and no others.

The lists are facts about the published files (tests/golden/published_manifests), made from the originals' code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tests.conversion.test_convert import GOLDEN, published, unread
from vdiffsr_jax.config import VDiffSRConfig
from vdiffsr_jax.conversion import to_torch as module
from vdiffsr_jax.conversion.convert import configure
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights import safetensors_file
from vdiffsr_jax.weights.lazy_array import LazyArray


def shapes(name: str) -> dict[str, list[int]]:
    tensors = published(GOLDEN / f"published_manifests/{name}.json")[1]["tensors"]
    return {tensor: spec["shape"] for tensor, spec in tensors.items()}


def test_a_plain_model_goes_back_under_the_originals_names(tmp_path: Path, monkeypatch: Any):
    parts = {"denoiser": "sinsr_v1", "first_stage": "autoencoder_vq_f4"}
    files = {item: published(GOLDEN / f"published_manifests/{name}.json") for item, name in parts.items()}
    network = configure(files["denoiser"][0], None, {})[0]
    first_stage = configure(files["first_stage"][0], None, {})[0]
    config = VDiffSRConfig(first_stage=first_stage, denoiser=network.denoiser, schedule=network.schedule, prior=None)
    networks = kinds.networks("vdiffsr", config)

    def lazily(directory: Path, item: str) -> Any:
        return jax.tree.map(lambda leaf: LazyArray(leaf.shape, np.dtype(np.float32), unread), networks[item].abstract)

    written: dict[str, LazyArray] = {}
    monkeypatch.setattr(module, "read_config", lambda directory: ("vdiffsr", config, []))
    monkeypatch.setattr(module, "load_lazily", lazily)
    monkeypatch.setattr(safetensors_file, "write", lambda output, tensors: written.update(tensors))
    for item, name in parts.items():
        written.clear()
        assert module.to_torch(tmp_path, tmp_path / "out.safetensors", item=item) == []
        assert {tensor: list(array.shape) for tensor, array in written.items()} == shapes(name)
    for other in ("resshift_realsrx4_s15_v1", "resshift_realsrx4_s4_v3"):
        assert shapes(other) == shapes("sinsr_v1")  # so the same holds for them
