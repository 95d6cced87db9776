"""The Hugging Face hub, through huggingface_hub (extra `hub`): mirrors, tokens and proxies by its own environment."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from vdiffsr_jax.config import ConfigError, first_line
from vdiffsr_jax.distribution.download import DownloadError

_FILES = ["config.json", "*.safetensors", "README.md"]


def _library() -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ConfigError(f"a hub repository needs huggingface_hub (pip install 'vdiffsr-jax[hub]'): {error}") from None
    return huggingface_hub


def snapshot(repository: str) -> Path:
    """The local folder of ORG/NAME or ORG/NAME@REVISION, downloaded if needed; offline, what was downloaded before.

    Raises: ConfigError without huggingface_hub; DownloadError if the repository cannot be had or is no model of ours.
    """
    try:
        library = _library()
    except ConfigError as error:
        raise ConfigError(f"{repository}: no such local directory, and {error}") from None
    name, _, revision = repository.partition("@")
    try:
        folder = Path(library.snapshot_download(name, revision=revision or None, allow_patterns=_FILES))
    except (OSError, ValueError) as error:  # what its own errors and those of its HTTP client are
        raise DownloadError(
            f"{name} cannot be had from the hub: {first_line(error)} (no such local directory either)"
        ) from error
    if not (folder / "config.json").is_file():
        raise DownloadError(f"{name} is a hub repository, but no model of vdiffsr_jax: it has no config.json")
    return folder


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Upload a packed folder as one commit, making the repository if needed; returns its address.

    Raises: ConfigError without huggingface_hub, or if the folder is not one that `pack` writes; DownloadError if the
        hub refuses.
    """
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise ConfigError(f"{folder} is no packed model: write one with `vdiffsr-model pack DIR OUT`")
    api = _library().HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=_FILES))
    except Exception as error:  # its own, and those of an HTTP client that is another in every version
        raise DownloadError(f"the hub refuses {repository}: {first_line(error)}") from error
