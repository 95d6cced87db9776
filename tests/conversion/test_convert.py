"""Every published file converts strictly: names and shapes of the manifests, without their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.torch_writer import save
from vdiffsr_jax.config import ConfigError, ScheduleConfig, VARConfig
from vdiffsr_jax.conversion import recognise
from vdiffsr_jax.conversion.buffers import buffers
from vdiffsr_jax.conversion.convert import Part, configure, convert, doubts, dropped, merge, parts
from vdiffsr_jax.conversion.original_names import original_names
from vdiffsr_jax.conversion.presets import PRESETS
from vdiffsr_jax.conversion.rules import ConversionError, convert_lazily
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.weights.lazy_array import LazyArray

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFESTS = sorted((GOLDEN / "published_manifests").glob("*.json"))
SLOW = {
    "var_d20",
    "var_d24",
    "var_d30",
    "var_d36",
    "vae_ch160v4096z32_512",
    "resshift_bicsrx4_s4",
    "resshift_realsrx4_s15_v1",
    "resshift_realsrx4_s4_v3",
}
WHOLE = [pytest.param(f, id=f.stem, marks=[pytest.mark.slow] if f.stem in SLOW else []) for f in MANIFESTS]


def unread() -> np.ndarray:
    raise AssertionError("a number was read")


def published(file: Path) -> tuple[Part, dict]:
    manifest = json.loads(file.read_text())
    tensors = {
        name: LazyArray(tuple(spec["shape"]), np.dtype(spec["dtype"]), unread)
        for name, spec in manifest["tensors"].items()
    }
    return Part(Path(f"{file.stem}.pth"), "", recognise.kind_of(tensors, file.stem), tensors), manifest


@pytest.mark.parametrize("file", WHOLE)
def test_a_published_file_converts_strictly_and_back(file: Path):
    part, manifest = published(file)
    config, notes = configure(part, None, {})
    assert "assumed preset" in notes[0]
    want = flatten(kinds.network(part.kind, part.kind, config).abstract)
    table = recognise.KINDS[part.kind].table(config)
    flat = convert_lazily(table, part.tensors, want, file.stem)
    assert flat.keys() == want.keys()
    assert sum(array.size for array in flat.values()) == manifest["parameters"]

    made = buffers(part.kind, config)
    assert sorted(made) == sorted(manifest["buffers"]) == sorted(dropped(part, config))
    assert set(original_names(table, flat)) | set(made) == set(part.tensors)
    for name, array in made.items():
        assert (array.shape, array.dtype) == (part.tensors[name].shape, part.tensors[name].dtype), name


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda f: f.stem)
def test_the_configuration_is_the_published_one(file: Path):
    part, manifest = published(file)
    config, _ = configure(part, None, {})
    said = manifest["config"]
    if part.kind == "swin_unet":
        assert config.denoiser.image_size == said["image_size"]
        assert list(config.denoiser.attention_resolutions) == said["attention_resolutions"]
        assert list(config.denoiser.num_res_blocks) == said["num_res_blocks"]
        diffusion = manifest["diffusion"]
        got = config.schedule
        want = (diffusion["steps"], diffusion["kappa"], diffusion["min_noise_level"], diffusion["etas_end"])
        assert (got.num_steps, got.kappa, got.min_noise_level, got.sqrt_eta_end) == want
    elif part.kind == "vqgan":
        assert (config.ch, list(config.ch_mult)) == (said["ddconfig"]["ch"], said["ddconfig"]["ch_mult"])
    elif part.kind == "var_tokenizer":
        assert list(config.patch_nums) == said["v_patch_nums"]
        assert config.share_quant_resi == said["share_quant_resi"]
    else:
        for ours, theirs in (("depth", "depth"), ("width", "embed_dim"), ("num_heads", "num_heads")):
            assert getattr(config, ours) == said[theirs]
        assert (list(config.patch_nums), config.shared_aln) == (said["patch_nums"], said["shared_aln"])


def test_every_preset_is_a_valid_configuration():
    for preset in PRESETS.values():
        kinds.parse_config(preset.kind, preset.values)


def denoiser(name: str) -> Part:
    part, _ = published(GOLDEN / "published_manifests/sinsr_v1.json")
    return Part(Path(name), "", part.kind, part.tensors)


def test_a_schedule_is_never_guessed():
    with pytest.raises(ConversionError, match=r"neither the tensors nor the file's name.*--preset.*sinsr.*resshift_v3"):
        configure(denoiser("mine.pth"), None, {})
    with pytest.raises(ConversionError, match="unknown preset"):
        configure(denoiser("mine.pth"), "resshift_v9", {})
    with pytest.raises(ConversionError, match="preset vq_f4 is for vqgan"):
        configure(denoiser("mine.pth"), "vq_f4", {})
    config, notes = configure(denoiser("mine.pth"), "resshift_v3", {})
    assert (config.schedule.num_steps, notes) == (4, [])


def test_settings_come_before_presets_and_presets_before_nothing():
    config, _ = configure(denoiser("sinsr_v1.pth"), None, {"schedule": {"kappa": 1.0}})
    assert config.schedule == ScheduleConfig(kappa=1.0)
    config, _ = configure(denoiser("mine.pth"), None, {"schedule": {"num_steps": 5}, "denoiser": {"image_size": 64}})
    assert config.schedule.num_steps == 5
    with pytest.raises(ConfigError, match="did you mean 'kappa'"):
        configure(denoiser("sinsr_v1.pth"), None, {"schedule": {"kapa": 1.0}})
    for wrong in ({"denoiser": 3}, {"denoiser": {"image_size": "64"}}, {"denoisr": {}}):
        with pytest.raises((ConfigError, ConversionError), match=r"denois|image_size"):
            configure(denoiser("sinsr_v1.pth"), None, wrong)


def test_merge_goes_into_nested_mappings():
    assert merge({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": 4}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": 4}


def test_unknown_names_are_shown():
    with pytest.raises(ConversionError, match=r"none of: VAR.*first names: conv1\.weight, fc\.bias"):
        recognise.kind_of(["conv1.weight", "fc.bias"], "resnet.pth")
    with pytest.raises(ConversionError, match="--heads"):
        recognise.kind_of(["lin0.model.1.weight"], "vgg.pth")


VAR_FILE = GOLDEN / "var_transformer_b/weights.pth"
LEVELS = {
    "depth": 3,
    "patch_nums": json.loads((GOLDEN / "var_transformer_b/config.json").read_text())["var"]["patch_nums"],
}


def test_half_precision_files_become_float32_exactly(tmp_path: Path):
    (part,) = parts(VAR_FILE)
    half = {
        name: t.read().astype(np.float16) if t.dtype == np.float32 else t.read() for name, t in part.tensors.items()
    }
    (again,) = parts(save(tmp_path / "half.pth", {"module._orig_mod." + name: a for name, a in half.items()}))
    done = convert(again, settings=LEVELS)
    assert isinstance(done.config, VARConfig)
    assert done.source["dtypes"] == ["float16"]
    kernel = done.params["blocks"][0]["fc1"]["kernel"].read()
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, half["blocks.0.ffn.fc1.weight"].T.astype(np.float32))


def test_all_that_is_wrong_is_said_at_once():
    (part,) = parts(VAR_FILE)
    tensors = dict(part.tensors)
    del tensors["head.bias"]
    tensors["head_bias"] = part.tensors["head.bias"]
    tensors["pos_start"] = LazyArray.of(np.zeros((1, 1, 3), np.float32))
    with pytest.raises(ConversionError) as caught:
        convert(Part(part.path, "", "var", tensors), settings=LEVELS)
    message = str(caught.value)
    for problem in (
        "3 problems",
        "missing: head.bias (64,), which would fill head/bias",
        "head_bias: no rule",
        "pos_start: gives",
    ):
        assert problem in message


def test_recomputed_buffers_are_the_originals_bit_for_bit():
    (part,) = parts(VAR_FILE)
    config, _ = configure(part, None, LEVELS)
    made = buffers("var", config)
    assert len(made) == 2 + config.depth
    for name, array in made.items():
        np.testing.assert_array_equal(array, part.tensors[name].read())
        assert array.dtype == part.tensors[name].dtype


def test_a_var_that_is_not_whole_is_refused_unless_its_depth_is_stated(tmp_path: Path):
    part, _ = published(GOLDEN / "published_manifests/var_d16.json")

    def doubts_of(name: str, keep=lambda key: True, preset: str | None = None, **settings: int) -> str:
        tensors = {key: tensor for key, tensor in part.tensors.items() if keep(key)}
        cut = Part(Path(name), "", "var", tensors)
        config, _ = configure(cut, preset, settings)
        return "; ".join(doubts(cut, config, preset, settings))

    assert doubts_of("var_d16.pth") == doubts_of("mine.pth") == doubts_of("mine.pth", preset="var_d16") == ""
    assert "has 15 blocks of width 1024" in doubts_of("mine.pth", lambda key: not key.startswith("blocks.15."))
    assert "lacks the blocks 7 of 16" in doubts_of("mine.pth", lambda key: not key.startswith("blocks.7."))
    assert "the file name var_d20.pth says depth 20" in doubts_of("var_d20.pth")
    assert "the file name my-VAR-d20_ft.pth says depth 20" in doubts_of("my-VAR-d20_ft.pth")
    assert "--preset var_d20 says depth 20" in doubts_of("mine.pth", preset="var_d20")
    assert doubts_of("var_d20.pth", lambda key: not key.startswith("blocks.15."), depth=15) == ""

    (small,) = parts(VAR_FILE)
    only_levels = {"patch_nums": LEVELS["patch_nums"]}
    with pytest.raises(ConversionError, match=r'3 blocks of width 64.*--config with \{"depth": 3\}'):
        convert(small, settings=only_levels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value: float):
    (part,) = parts(VAR_FILE)
    tensors = dict(part.tensors)
    for name in ("head.weight", "blocks.1.ffn.fc1.bias"):
        array = part.tensors[name].read().copy()
        array.flat[3] = value
        tensors[name] = LazyArray.of(array)
    wrong = Part(part.path, "", "var", tensors)
    with pytest.raises(ConversionError, match=r"2 tensors are not finite") as caught:
        convert(wrong, settings=LEVELS)
    assert f"head.weight (1 of {tensors['head.weight'].size} numbers)" in str(caught.value)
    assert "blocks.1.ffn.fc1.bias (1 of" in str(caught.value)
    done = convert(wrong, settings=LEVELS, allow_nonfinite=True)
    assert not np.isfinite(done.params["blocks"][1]["fc1"]["bias"].read()).all()


def test_numbers_too_large_for_float32_are_named_and_dropped_buffers_may_hold_infinity():
    (part,) = parts(VAR_FILE)
    assert np.isinf(part.tensors["attn_bias_for_masking"].read()).any()
    huge = LazyArray.of(np.full(part.tensors["head.bias"].shape, 1e300))
    with pytest.raises(ConversionError, match=r"1 tensors are not finite.*head\.bias"):
        convert(Part(part.path, "", "var", part.tensors | {"head.bias": huge}), settings=LEVELS)


def test_what_ldms_trainer_adds_is_dropped_and_said():
    part, _ = published(GOLDEN / "published_manifests/autoencoder_vq_f4.json")
    extra = {f"loss.{name}": LazyArray((1,), np.dtype(np.float32), unread) for name in ("logvar", "discriminator.0.w")}
    more = Part(part.path, "", "vqgan", part.tensors | extra)
    config, _ = configure(more, None, {})
    assert set(dropped(more, config)) == set(extra)
    assert "LDM" in dropped(more, config)["loss.logvar"]


def test_missing_names_are_in_the_files_own_spelling():
    part, _ = published(GOLDEN / "published_manifests/sinsr_v1.json")
    config, _ = configure(part, None, {})
    want = flatten(kinds.network("swin_unet", "swin_unet", config).abstract)
    tensors = {name: tensor for name, tensor in part.tensors.items() if name != "out.0.weight"}
    with pytest.raises(ConversionError, match=r"missing: out\.0\.weight \(160,\), which would fill norm_out/scale"):
        convert_lazily(recognise.KINDS["swin_unet"].table(config), tensors, want, "sinsr")
