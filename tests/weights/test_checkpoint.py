from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from tests.models.filled import filled
from vdiffsr_jax.config import ConfigError, ExpectedError, VQGANConfig
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.weights import hub_folder, orbax_items, safetensors_file, versions, whole
from vdiffsr_jax.weights.checkpoint import CheckpointError, load_lazily, load_model, read_config, save_model
from vdiffsr_jax.weights.lazy_array import LazyArray
from vdiffsr_jax.weights.train_state import TrainCheckpoints
from vdiffsr_jax.weights.whole import BusyError

CFG = VQGANConfig(ch=32, ch_mult=(1, 1), num_res_blocks=1, n_embed=16)


@pytest.fixture(scope="module")
def params():
    return filled(kinds.network("vqgan", "vqgan", CFG).abstract)


@pytest.fixture(scope="module")
def saved(params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "vqgan"
    save_model(path, {"vqgan": params}, kind="vqgan", config=CFG, sources=[{"file": "a.pth"}])
    return path


def equal(a, b) -> bool:
    same = jax.tree.map(lambda x, y: bool(np.array_equal(np.asarray(x), np.asarray(y))), a, b)
    return all(jax.tree.leaves(same))


def test_a_model_comes_back_as_it_was(params, saved: Path):
    model = load_model(saved)
    assert (model.kind, model.config, model.sources) == ("vqgan", CFG, [{"file": "a.pth"}])
    assert jax.tree.structure(model.items["vqgan"]) == jax.tree.structure(params)
    assert equal(model.items["vqgan"], params)
    assert all(isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(model.items))
    assert [path.name for path in saved.parent.iterdir()] == ["vqgan"]


def test_numpy_jax_and_lazy_leaves_are_saved_alike(params, saved: Path, tmp_path: Path):
    reads = []

    def lazy(leaf: np.ndarray) -> LazyArray:
        return LazyArray(leaf.shape, leaf.dtype, lambda: reads.append(leaf.shape) or leaf)

    for name, change in (("jax", jnp.asarray), ("lazy", lazy)):
        save_model(tmp_path / name, {"vqgan": jax.tree.map(change, params)}, kind="vqgan", config=CFG)
        assert equal(load_model(tmp_path / name).items["vqgan"], params)
    assert len(reads) == len(jax.tree.leaves(params))


def test_sharded_parameters_are_saved_whole_and_restored_where_asked(params, tmp_path: Path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def where(name: str, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        split = leaf.shape and leaf.shape[-1] % 8 == 0
        return NamedSharding(mesh, PartitionSpec(*[None] * (len(leaf.shape) - 1), "data") if split else PartitionSpec())

    sharded = jax.tree.map(lambda x: jax.device_put(x, where("", x)), params)
    save_model(tmp_path / "m", {"vqgan": sharded}, kind="vqgan", config=CFG)
    assert equal(load_model(tmp_path / "m").items["vqgan"], params)
    again = load_model(tmp_path / "m", placement=where).items["vqgan"]
    assert equal(again, params)
    assert again["encoder"]["conv_in"]["kernel"].sharding.spec == PartitionSpec(None, None, None, "data")


def test_dtype_is_chosen_at_loading(params, saved: Path):
    half = load_model(saved, dtype=jnp.bfloat16).items["vqgan"]
    assert equal(half, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))


def test_lazy_loading_reads_one_array(params, saved: Path):
    lazy = load_lazily(saved, "vqgan")
    assert jax.tree.structure(lazy) == jax.tree.structure(params)
    np.testing.assert_array_equal(lazy["codebook"].read(), params["codebook"])
    with pytest.raises(CheckpointError, match="has no 'pvar', only vqgan"):
        load_lazily(saved, "pvar")


def test_nothing_is_left_of_a_failed_save(params, tmp_path: Path):
    def fail() -> np.ndarray:
        raise OSError("disk on fire")

    broken = params | {"codebook": LazyArray((16, 3), np.dtype(np.float32), fail)}
    with pytest.raises(CheckpointError, match=r"m cannot be written: disk on fire"):
        save_model(tmp_path / "m", {"vqgan": broken}, kind="vqgan", config=CFG)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_says_why_also_where_its_remains_cannot_be_cleared(params, tmp_path: Path, monkeypatch):
    """As when writes that were begun before go on and on."""

    def fail() -> np.ndarray:
        monkeypatch.setattr(type(epath.Path(tmp_path)), "rmtree", lambda self: os.rmdir(self))  # not empty
        raise OSError("disk on fire")

    broken = params | {"codebook": LazyArray((16, 3), np.dtype(np.float32), fail)}
    with pytest.raises(CheckpointError, match=r"m cannot be written: disk on fire"):
        save_model(tmp_path / "m", {"vqgan": broken}, kind="vqgan", config=CFG)
    assert not (tmp_path / "m").exists()
    monkeypatch.undo()
    save_model(tmp_path / "m", {"vqgan": params}, kind="vqgan", config=CFG)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("before", ["nothing", "empty", "model"])
def test_of_two_writers_the_second_is_refused_and_the_first_ones_model_is_whole(params, tmp_path, monkeypatch, before):
    path = tmp_path / "m"
    if before == "empty":
        path.mkdir()
    if before == "model":
        save_model(path, {"vqgan": params}, kind="vqgan", config=CFG)
    write, told = orbax_items.save, []

    def save_again_meanwhile(items, *, compress):
        write(items, compress=compress)
        monkeypatch.setattr(orbax_items, "save", write)
        with pytest.raises(BusyError, match="another process writes there") as caught:
            save_model(path, {"vqgan": params}, kind="vqgan", config=CFG, overwrite=True)
        told.append(caught)

    monkeypatch.setattr(orbax_items, "save", save_again_meanwhile)
    twice = jax.tree.map(lambda x: 2 * x, params)
    save_model(path, {"vqgan": twice}, kind="vqgan", config=CFG, overwrite=True)
    assert told
    assert equal(load_model(path).items["vqgan"], twice)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert not [p.name for p in path.iterdir() if p.name.startswith(".")]
    monkeypatch.setattr(orbax_items, "save", write)
    save_model(path, {"vqgan": params}, kind="vqgan", config=CFG, overwrite=True)


def test_a_folder_that_is_there_is_written_into_and_one_of_another_writer_is_not(params, tmp_path: Path, monkeypatch):
    """A mounted folder cannot be renamed, nor a link replaced."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.setattr(versions, "publish", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(CheckpointError, match=r"link cannot be written: .*No space left"):
        save_model(tmp_path / "link", {"vqgan": params}, kind="vqgan", config=CFG)
    assert not list((tmp_path / "disk").iterdir())
    monkeypatch.undo()
    save_model(tmp_path / "link", {"vqgan": params}, kind="vqgan", config=CFG)
    assert equal(load_model(tmp_path / "disk").items["vqgan"], params)
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(CheckpointError, match="nowhere exists"):
        save_model(tmp_path / "nowhere", {"vqgan": params}, kind="vqgan", config=CFG)


def test_what_a_killed_save_left_in_a_folder_is_cleared_and_somebodys_v1_is_not(params, tmp_path: Path):
    for name in ("killed", "own"):
        (tmp_path / name / "v1" / "vqgan").mkdir(parents=True)
    (tmp_path / "killed" / whole.LOCK).touch()
    save_model(tmp_path / "killed", {"vqgan": params}, kind="vqgan", config=CFG)
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"config.json", "v1"}
    with pytest.raises(CheckpointError, match="own exists"):
        save_model(tmp_path / "own", {"vqgan": params}, kind="vqgan", config=CFG)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["v1"]


def test_a_killed_saves_remains_are_cleared(params, tmp_path: Path):
    (tmp_path / ".m.partial/vqgan").mkdir(parents=True)
    (tmp_path / f".m{whole.LOCK}").touch()
    save_model(tmp_path / "m", {"vqgan": params}, kind="vqgan", config=CFG)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_does_not_fit_is_not_saved(params, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"codebook has shape \(16, 3\), needs \(8, 3\)"):
        save_model(tmp_path / "m", {"vqgan": params}, kind="vqgan", config=dataclasses.replace(CFG, n_embed=8))
    with pytest.raises(CheckpointError, match="a vqgan of this configuration has vqgan, not first_stage"):
        save_model(tmp_path / "m", {"first_stage": params}, kind="vqgan", config=CFG)
    with pytest.raises(ConfigError, match="unknown kind"):
        save_model(tmp_path / "m", {"gan": params}, kind="gan", config={})
    assert not list(tmp_path.iterdir())


def test_overwriting_replaces_the_whole(params, saved: Path, tmp_path: Path):
    path = tmp_path / "m"
    shutil.copytree(saved, path)
    with pytest.raises(CheckpointError, match="exists"):
        save_model(path, {"vqgan": params}, kind="vqgan", config=CFG)
    twice = jax.tree.map(lambda x: 2 * x, params)
    save_model(path, {"vqgan": twice}, kind="vqgan", config=CFG, overwrite=True)
    assert equal(load_model(path).items["vqgan"], twice)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_overwriting_leaves_what_is_not_the_models(params, saved: Path, tmp_path: Path):
    path = tmp_path / "m"
    shutil.copytree(saved, path)
    shutil.copytree(saved, path / "another")
    shutil.copytree(saved, path / "v7")
    (path / "README.md").write_text("by hand")
    for _ in range(2):  # over a model beside its configuration, then over one in a folder
        save_model(path, {"vqgan": params}, kind="vqgan", config=CFG, overwrite=True)
    assert {p.name for p in path.iterdir()} == {"config.json", "v2", "another", "v7", "README.md"}
    assert equal(load_model(path / "another").items["vqgan"], params)


@pytest.mark.parametrize("name", ["run", "foreign", "v1"])
def test_overwriting_is_for_checkpoints_of_ours(params, saved: Path, tmp_path: Path, name: str):
    """Neither a training run, nor another program's model, nor a folder that holds checkpoints is taken for one."""
    path = tmp_path / "m"
    if name == "run":
        shutil.copytree(saved, path / "best")
        (path / "checkpoints").mkdir()
    if name == "v1":
        shutil.copytree(saved, path / "v1")
    else:
        (path).mkdir(exist_ok=True)
        (path / "config.json").write_text('{"task": "distill"}')
    before = sorted(path.rglob("*"))
    for overwrite in (False, True):
        with pytest.raises(CheckpointError, match="not overwritten" if overwrite else "exists"):
            save_model(path, {"vqgan": params}, kind="vqgan", config=CFG, overwrite=overwrite)
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize("folder", [None, "v2"])
def test_nothing_of_the_old_model_goes_before_the_new_one_is_whole(tmp_path: Path, folder: str | None):
    """Also what the new one has no network of that name for, and a checkpoint that somebody calls v7."""
    directory = epath.Path(tmp_path)
    (directory / "config.json").write_text(json.dumps({"folder": folder} if folder else {}))
    for name in ("first_stage", "pvar", "v2", "v3", "v7"):
        (directory / name).mkdir()
    (directory / "v7/config.json").touch()
    versions.clear(directory, versions.place(directory, versions.next_number(directory)))
    kept = {"config.json", "first_stage", "pvar", "v7"} | ({"v2"} if folder else set())
    assert {path.name for path in directory.iterdir()} == kept


def test_an_orbax_that_is_too_old_is_said_before_anything_is_done(params, saved, tmp_path, monkeypatch):
    class Older:
        def __init__(self, metadata_key=None):
            pass

    monkeypatch.setattr(ocp.type_handlers, "NumpyHandler", Older)
    wanted = r"^orbax-checkpoint [\d.]+ is too old: pip install 'orbax-checkpoint>=0.12.8'$"
    with pytest.raises(ExpectedError, match=wanted):
        save_model(tmp_path / "model", {"vqgan": params}, kind="vqgan", config=CFG)
    with pytest.raises(ExpectedError, match=wanted):
        load_model(saved)
    with pytest.raises(ExpectedError, match=wanted):
        TrainCheckpoints(epath.Path(tmp_path / "run"), every=1, keep_last=1, keep_best=0, best="psnr", rising=True)
    assert not list(tmp_path.iterdir())


def edit(path: Path, **changes) -> None:
    content = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(content | changes))


def test_a_damaged_checkpoint_is_refused_by_name(saved: Path, tmp_path: Path):
    def copy(name: str) -> Path:
        return shutil.copytree(saved, tmp_path / name)

    with pytest.raises(CheckpointError, match="no such directory"):
        load_model(tmp_path / "absent")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        load_model(tmp_path)
    path = copy("json")
    (path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(path)
    path = copy("format")
    edit(path, format=99)
    with pytest.raises(CheckpointError, match="format 99"):
        load_model(path)
    path = copy("kind")
    edit(path, kind="gan")
    with pytest.raises(CheckpointError, match="unknown kind of checkpoint 'gan'"):
        read_config(path)
    path = copy("config")
    edit(path, config={"ch": 64, "ch_mult": [1, 1], "num_res_blocks": 1, "n_embed": 16})
    with pytest.raises(CheckpointError, match=r"do not fit its configuration[\s\S]*has shape"):
        load_model(path)
    path = copy("item")
    shutil.rmtree(path / "vqgan")
    with pytest.raises(CheckpointError, match="incomplete"):
        load_model(path)
    path = copy("data")
    shutil.rmtree(path / "vqgan/ocdbt.process_0")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(path)
    with pytest.raises(CheckpointError, match="holds vqgan; not pvar"):
        load_model(saved, items=["pvar"])


def test_whole_numbers_are_no_parameters(params, saved: Path, tmp_path: Path):
    """Of a checkpoint and of the hub's folder format: what somebody has quantised."""
    whole = params | {"codebook": (100 * params["codebook"]).astype(np.int8)}
    save_model(tmp_path / "m", {"vqgan": whole}, kind="vqgan", config=CFG)
    hub = tmp_path / "hub"
    hub.mkdir()
    shutil.copy(saved / "config.json", hub)
    names = hub_folder.torch_names(flatten(whole))
    tensors = {n: hub_folder.in_torch_layout(p, LazyArray.of(flatten(whole)[p])) for n, p in names.items()}
    safetensors_file.write(hub / "vqgan.safetensors", tensors)
    for path in (tmp_path / "m", hub):
        with pytest.raises(CheckpointError, match=r":\n  codebook is int8, needs floating numbers \(quantised\?\)"):
            load_model(path)


def test_what_is_no_checkpoint_is_said_with_what_to_give_instead(saved: Path, tmp_path: Path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text('{"task": "distill"}')
    with pytest.raises(CheckpointError, match=r"training run that has written no model yet: .*run/model appears"):
        read_config(run)
    shutil.copytree(saved, run / "model")
    with pytest.raises(CheckpointError, match=r"is not a checkpoint but holds one: give .*run/model$"):
        load_model(run)
    file = tmp_path / "SinSR_v1.pth"
    file.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match=r"convert it first: .*--denoiser SinSR_v1\.pth --first-stage"):
        load_model(file)
    file.rename(tmp_path / "var_d16.pth")
    with pytest.raises(CheckpointError, match=r"convert_torch_weights\.py var_d16\.pth --output checkpoints/var_d16"):
        load_model(tmp_path / "var_d16.pth")


def test_every_kind_has_networks():
    small = {
        "vqgan": CFG,
        "vdiffsr": kinds.parse_config("vdiffsr", {"prior": None}),
        "perceptual": kinds.PerceptualConfig("alexnet"),
    }
    for kind, config in small.items():
        built = kinds.networks(kind, config)
        assert list(built) == kinds.item_names(kind, config)
        assert all(flatten(network.abstract) for network in built.values())
    with pytest.raises(ConfigError, match="has no 'pvar', only first_stage, denoiser"):
        kinds.network("vdiffsr", "pvar", small["vdiffsr"])
