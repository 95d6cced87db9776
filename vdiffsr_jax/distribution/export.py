"""The tile program of a model, LR tile and noise to HR tile, as a file that runs without this package.

stablehlo: tile.stablehlo for `jax.export.deserialize`, weights.npz beside it (so that one program serves many sets of
    weights and a file of gigabytes is mapped, not parsed), export.json, and reader.py, which upscales whole photos.
onnx: model.onnx with its weights inside, as onnxruntime's users expect; beside it in model.onnx.data from 1 GB on.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from vdiffsr_jax import __version__
from vdiffsr_jax.config import ConfigError, first_line
from vdiffsr_jax.conversion.rules import ConversionError
from vdiffsr_jax.models import fidelity as ends
from vdiffsr_jax.models.assembled import assemble
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.models.prior import fold_model
from vdiffsr_jax.ops import attention, noise
from vdiffsr_jax.sampling.tile_model import SAMPLERS, step_choices
from vdiffsr_jax.sampling.tile_program import noise_fields, upscale_tiles
from vdiffsr_jax.weights import checkpoint, whole

PLATFORMS = ("cpu", "cuda", "tpu")
TOLERANCE = 1e-3  # largest deviation in [-1, 1] that an ONNX file may show: an eighth of a grey level
_INSIDE = 10**9  # bytes of weights that one protobuf file, at most 2 GiB, shall hold

Run = Callable[[Mapping[str, jax.Array], jax.Array, jax.Array], jax.Array]


class Exported:
    """What a checkpoint's export is made of.

    `run(weights, lr, eps)`: the tile program, lr (b, t, t, 3) in [-1, 1], eps (b, fields, t, t, c) standard normal.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        steps: int = 1,
        sampler: str = "ancestral",
        dtype: str = "float32",
        fidelity: float | None = None,
    ):
        """Read, fold, go to one fidelity. Raises: ConfigError, in a line, if it cannot be exported; CheckpointError."""
        kind, config, _ = checkpoint.read_config(directory)
        if kind != "vdiffsr":
            raise ConfigError(f"{directory} holds a {kind} network alone: only an assembled model upscales tiles")
        if config.is_shuffled:
            raise ConfigError(f"{directory} has prior.mode=shuffled: a tile then reads another photo's prior")
        if steps not in step_choices(config):
            raise ConfigError(f"--steps {steps} must be one of {', '.join(map(str, step_choices(config)))}")
        if sampler not in SAMPLERS:
            raise ConfigError(f"--sampler {sampler} must be one of {', '.join(SAMPLERS)}")
        try:
            ends.check(config, fidelity)
        except ValueError as error:
            raise ConfigError(f"{directory}: {error}") from None
        loaded = checkpoint.load_model(directory, dtype=jnp.float32)
        items, self.config = ends.at(*fold_model(loaded.items, config), fidelity)
        model = assemble(self.config, dtype=jnp.dtype(dtype))
        items = {name: network.as_computed(items[name]) for name, network in model.networks.items()}
        self.weights: dict[str, jax.Array] = flatten(items)
        self.fields = noise_fields(steps, sampler)
        self.facts = {
            "made_by": f"vdiffsr_jax {__version__}, jax {jax.__version__}",
            "tile": self.config.tile_size,
            "scale": self.config.scale,
            "overlap": min(8, self.config.tile_size // 2),
            "steps": steps,
            "sampler": sampler,
            "dtype": dtype,
            "noise_fields": self.fields,
            "latent_channels": self.config.first_stage.embed_dim,
        }

        def run(weights: Mapping[str, jax.Array], lr: jax.Array, eps: jax.Array) -> jax.Array:
            with attention.compiled_for("any"):
                return upscale_tiles(model, unflatten(dict(weights), items), lr, None, eps, steps=steps, method=sampler)

        self.run: Run = run


def check(output: Path, form: str, *, dtype: str, batch: int) -> None:
    """Refuse what would fail in the end, before the model is read.

    Raises: ConfigError if `output` holds something; of ONNX without its extra, for bfloat16, or for no tiles.
    """
    whole.check_empty(output)
    if form != "onnx":
        return
    if batch < 1:
        raise ConfigError(f"--batch {batch} must be at least 1")
    if dtype != "float32":
        raise ConfigError(f"--dtype {dtype}: onnxruntime has no bfloat16 convolution; ONNX is written in float32")
    for library in ("jax2onnx", "onnx_ir"):  # they warn of plugins for libraries that are not ours
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        for library in ("jax2onnx", "onnx_ir", "onnxruntime"):
            importlib.import_module(library)
    except ImportError as error:
        raise ConfigError(f"--format onnx needs jax2onnx (pip install 'vdiffsr-jax[onnx]'): {error}") from None


def stablehlo(exported: Exported, output: Path) -> list[Path]:
    """Write the folder; returns its files. The program is `run(weights, lr, origins, key)` of any number of tiles:
    noise is drawn inside, from the photo's own field (see `ops.noise`), as sample.py does.

    Raises: ConfigError if it holds something; OSError, and nothing is left.
    """
    tile, channels = exported.config.tile_size, exported.config.first_stage.embed_dim

    def run(weights: Mapping[str, jax.Array], lr: jax.Array, origins: jax.Array, key: jax.Array) -> jax.Array:
        eps = noise.noise_at(key, origins, fields=exported.fields, side=tile, channels=channels)
        return exported.run(weights, lr, eps)

    (b,) = jax.export.symbolic_shape("b")
    weights = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in exported.weights.items()}
    program = jax.export.export(jax.jit(run), platforms=PLATFORMS)(
        weights,
        jax.ShapeDtypeStruct((b, tile, tile, 3), jnp.float32),
        jax.ShapeDtypeStruct((b, 2), jnp.int32),
        jax.ShapeDtypeStruct((2,), jnp.uint32),
    )
    # numpy has no bfloat16: its bits are stored, and reader.py says so to jax again.
    arrays = {name: np.asarray(x) for name, x in exported.weights.items()}
    with whole.new_folder(output) as folder:
        (folder / "tile.stablehlo").write_bytes(program.serialize())
        np.savez(
            folder / "weights.npz",
            **{n: x.view(np.uint16) if x.dtype == jnp.bfloat16 else x for n, x in arrays.items()},  # type: ignore[arg-type]
        )
        (folder / "export.json").write_text(json.dumps(exported.facts | {"platforms": PLATFORMS}, indent=2) + "\n")
        shutil.copyfile(Path(__file__).with_name("reader.py"), folder / "reader.py")
    return sorted(output.iterdir())


def onnx(exported: Exported, output: Path, *, batch: int = 1) -> tuple[list[Path], float]:
    """Write `lr`, `noise` -> `hr` of `batch` tiles for onnxruntime; returns its files and the largest deviation.

    Raises: ConfigError as `check`, or for what jax2onnx cannot convert; ConversionError if onnxruntime's result
        deviates by more than TOLERANCE from JAX's; OSError. Then nothing is left.
    """
    check(output, "onnx", dtype=str(exported.facts["dtype"]), batch=batch)
    import jax2onnx
    import onnx_ir

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its own debugging lines
        try:
            model: Any = jax2onnx.to_onnx(
                lambda lr, eps: exported.run(exported.weights, lr, eps),
                _shapes(exported, batch),
                model_name="vdiffsr_tile",
                return_mode="ir",
                input_names=["lr", "noise"],
                output_names=["hr"],
            )
        except (NotImplementedError, TypeError, ValueError) as error:
            raise ConfigError(f"jax2onnx cannot convert this model: {first_line(error)}") from error
    large = sum(x.size * 4 for x in exported.weights.values()) > _INSIDE
    with whole.new_folder(output) as folder:
        onnx_ir.save(model, folder / "model.onnx", external_data="model.onnx.data" if large else None)
        deviation = compare(exported, folder / "model.onnx", batch=batch)
        facts = exported.facts | {"batch": batch, "deviation": deviation}
        (folder / "export.json").write_text(json.dumps(facts, indent=2) + "\n")
    return sorted(output.iterdir()), deviation


def compare(exported: Exported, file: Path, *, batch: int = 1) -> float:
    """The largest deviation of onnxruntime from JAX, on a random tile.

    Raises: ConversionError if it is above TOLERANCE.
    """
    import onnxruntime

    lr, eps = example(exported, batch)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, quiet, providers=["CPUExecutionProvider"])
    got = session.run(None, {"lr": lr, "noise": eps})[0]
    deviation = float(np.abs(got - jax.jit(exported.run)(exported.weights, lr, eps)).max())
    if not deviation <= TOLERANCE:
        raise ConversionError(f"ONNX deviates from JAX by {deviation:.2g}, more than {TOLERANCE}: nothing was written")
    return deviation


def example(exported: Exported, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """A random LR tile (b, t, t, 3) and its noise, as `run` takes them."""
    rng, (lr, eps) = np.random.default_rng(0), _shapes(exported, batch)
    return rng.uniform(-1, 1, lr).astype(np.float32), rng.standard_normal(eps, np.float32)


def _shapes(exported: Exported, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    tile, channels = exported.config.tile_size, exported.config.first_stage.embed_dim
    return (batch, tile, tile, 3), (batch, exported.fields, tile, tile, channels)
