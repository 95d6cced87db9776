"""A server of small published files, an empty cache, a catalogue that points there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distribution.server import Server
from tests.models.filled import filled
from vdiffsr_jax.config import SwinUNetConfig, VQGANConfig
from vdiffsr_jax.conversion.to_torch import to_torch
from vdiffsr_jax.distribution import catalogue
from vdiffsr_jax.distribution.catalogue import Entry, Part
from vdiffsr_jax.models import kinds
from vdiffsr_jax.weights.checkpoint import save_model

CONFIGS = {
    "vqgan": VQGANConfig(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, n_embed=16),
    "swin_unet": kinds.DenoiserConfig(
        SwinUNetConfig(
            image_size=16, model_channels=32, channel_mult=(1, 1), num_res_blocks=(1, 1), attention_resolutions=(8,),
            num_head_channels=16, swin_embed_dim=32, window_size=4,
        )
    ),
}  # fmt: skip
FILES = {"vqgan": "vq_f4.safetensors", "swin_unet": "SinSR_v1.safetensors"}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """{file name: bytes} of a small SinSR and its first stage, under the original names."""
    folder = tmp_path_factory.mktemp("published")
    for i, (kind, config) in enumerate(CONFIGS.items()):
        params = filled(kinds.network(kind, kind, config).abstract, seed=i)
        save_model(folder / kind, {kind: params}, kind=kind, config=config)
        to_torch(folder / kind, folder / FILES[kind])
    return {name: (folder / name).read_bytes() for name in FILES.values()}


@pytest.fixture
def server(tmp_path: Path, published: dict[str, bytes]) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    for name, content in published.items():
        (folder / name).write_bytes(content)
    server = Server(folder)
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty; nothing of the network's environment reaches the tests."""
    monkeypatch.setenv("VDIFFSR_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "VDIFFSR_MIRROR", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("vdiffsr_jax.distribution.download.time.sleep", lambda seconds: None)
    return tmp_path / "cache"


@pytest.fixture
def tiny(server: Server, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The one entry of the catalogue, `sinsr`, on the local server."""
    parts = {
        role: Part(f"{server.address}/{FILES[kind]}", 1, "CC0", None, tried=True)
        for role, kind in (("denoiser", "swin_unet"), ("first_stage", "vqgan"))
    }
    entry = Entry("sinsr", "small", parts)
    monkeypatch.setattr(catalogue, "entries", lambda: {"sinsr": entry})
    return entry
