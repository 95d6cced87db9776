"""train.py from outside: what it refuses, with one line and which exit code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from tests.training.conftest import write_config
from vdiffsr_jax.cli import train as cli
from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.sampling.bundled import BUNDLED_MODEL
from vdiffsr_jax.training import chain as chain_of
from vdiffsr_jax.training import sequence
from vdiffsr_jax.training.config import InitFrom, parse_train
from vdiffsr_jax.weights.checkpoint import CheckpointError

CONFIG = """
def get_config():
    return {"task": "vqgan", "data": {"synthetic_fraction": 1.0}, "loss": {"perceptual": 0.0}}
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.py"
    file.write_text(CONFIG)
    return file


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["batch_size=30", "mesh.data=8"], "train.py: batch_size=30 must divide by 8 devices; try 32"),
        (["model.n_embeds=3"], "train.py: unknown setting 'model.n_embeds'; did you mean 'n_embed'?"),
        (["loss.perceptual=1.0"], "train.py: init_from.perceptual is needed: the directory of a perceptual checkpoint"),
        (["remat=full"], "train.py: remat is for var, align, teacher and distill, not for task vqgan"),
        (["task=tokenizer", "data.crop_size=128"], "train.py: data.crop_size=128 must be the tokenizer's window, 256"),
        (
            ["task=var", "loss={}"],
            "train.py: init_from.tokenizer is needed: the directory of a var_tokenizer checkpoint",
        ),
        (["task=teacher", "loss={}"], "train.py: init_from.first_stage is needed: the directory of a vqgan or vdiffsr"),
        (["task=distill", "loss={}"], "train.py: init_from.teacher is needed: the directory of a swin_unet or vdiffsr"),
        (["task=teacher", "loss={}", "data.crop_size=128"], "data.crop_size=128 must be one tile"),
        (["steps"], "train.py: --set steps: write key=value"),
        (["eval.metrics=['dists']", "eval.weights=nowhere"], "train.py: eval.metrics: dists has no weights in nowhere"),
    ],
)
def test_wrong_settings_are_one_line_and_exit_2(config, tmp_path, capsys, settings, message):
    args = ["--config", str(config), "--workdir", str(tmp_path / "run")]
    assert cli.main(args + [part for setting in settings for part in ("--set", setting)]) == cli.USAGE
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists(), "nothing is made before the settings are right"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--minutes", "-1"], "--minutes must be at least 0"),
        (["--hours", "-0.5"], "--hours must be at least 0"),
        (["--hours", "nan"], "--hours must be at least 0, and finite"),
        (["--minutes", "inf"], "--minutes must be at least 0, and finite"),
        (["--stall_minutes", "0"], "--stall_minutes 0 must be above 0"),
        (["--stall_minutes", "-2"], "--stall_minutes -2 must be above 0"),
    ],
)
def test_times_that_are_none_are_refused(config, tmp_path, capsys, flags, message):
    assert cli.main(["--config", str(config), "--workdir", str(tmp_path / "run"), *flags, "--check"]) == cli.USAGE
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--minutes", "--hours"])
def test_no_time_is_a_time(config, tmp_path, monkeypatch, flag):
    given = []
    monkeypatch.setattr(sequence, "run", lambda *args, seconds, **options: given.append(seconds) or [])
    command = ["--config", str(config), "--workdir", str(tmp_path / "run"), "--compile_cache", "off", flag, "0"]
    assert cli.main(command) == cli.INTERRUPTED
    assert given == [0.0]


def test_steps_of_other_runs_are_refused(config, tmp_path, capsys):
    file = tmp_path / "steps.json"
    file.write_text('{"teacher": 5, "distill": 7}')
    command = ["--config", str(config), "--steps", str(file), "--check", "--workdir"]
    assert cli.main([*command, str(tmp_path / "run")]) == cli.USAGE
    assert f"--steps {file} is of runs teacher, distill; none is of run\n" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "distill")]) == cli.DONE


def test_verbose_shows_where(config, tmp_path, capsys):
    args = ["--config", str(config), "--workdir", str(tmp_path / "run"), "--set", "steps=0", "--verbose"]
    assert cli.main(args) == cli.USAGE
    assert "Traceback" in capsys.readouterr().err


def test_one_run_of_a_chain(tmp_path, config):
    values = read_config_file("smoke:distill")
    assert values == read_config_file("smoke")["distill"]
    (settings,) = chain_of.runs(values, str(tmp_path / "again")).values()
    assert settings["init_from"]["teacher"] == str(tmp_path / "teacher" / "model")
    with pytest.raises(ConfigError, match=r"has no run 'student'; its runs: .*distill"):
        read_config_file("smoke:student")
    with pytest.raises(ConfigError, match="has no run 'teacher'; it is a single run"):
        read_config_file(f"{config}:teacher")


def test_config_file(tmp_path, config, capsys):
    with pytest.raises(ConfigError, match="no such file"):
        read_config_file(tmp_path / "none.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="has no function get_config"):
        read_config_file(tmp_path / "empty.py")
    assert cli.main(["--config", str(config)]) == cli.USAGE
    assert "--workdir is needed" in capsys.readouterr().err
    with pytest.raises(SystemExit) as leave:
        cli.main([])
    assert leave.value.code == cli.USAGE


def test_chain_fills_in_its_directory(tmp_path, capsys):
    chain = {"a": {"task": "vqgan"}, "b": {"task": "var", "init_from": {"tokenizer": "{workdir}/a/model"}}}
    runs = chain_of.runs(chain, tmp_path)
    assert list(runs) == [tmp_path / "a", tmp_path / "b"]
    assert runs[tmp_path / "b"]["init_from"]["tokenizer"] == f"{tmp_path}/a/model"
    (made, _) = chain_of.runs(chain, None)
    assert made.parent.is_dir()
    assert str(made.parent) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["smoke", "box", "box_gpu", "vdiffsr_x4_chain"])
def test_our_chains_start_only_from_what_came_before(tmp_path, name):
    """A ConfigDict sorts its keys unless it is told not to, and with them the runs."""
    done: list[str] = []
    for path, settings in chain_of.runs(read_config_file(name), str(tmp_path)).items():
        needed = {str(d).removeprefix(f"{tmp_path}/").split("/")[0] for d in settings["init_from"].values()
                  if str(d).startswith(str(tmp_path))}  # fmt: skip
        assert needed <= set(done), path.name
        done.append(path.name)
    assert len(done) > 1


@pytest.mark.parametrize(
    ("error", "trace"),
    [(CheckpointError("runs/a is damaged"), False), (OSError(28, "No space left on device", "log"), False),
     (ValueError("our own fault"), True), (RuntimeError("our own fault"), True), (KeyError("our own fault"), True)],
)  # fmt: skip
def test_refusals_are_one_line_and_faults_of_ours_keep_their_trace(monkeypatch, capsys, error, trace):
    def fail(args):
        raise error

    monkeypatch.setattr(cli, "train", fail)
    assert cli.main(["--config", "x.py"]) == cli.FAILED
    err = capsys.readouterr().err
    assert ("Traceback" in err) == trace
    assert err.splitlines()[-1] == f"train.py: {error}"


def test_check_opens_every_path_and_says_all_that_is_missing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    photos = tmp_path / "photos"
    photos.mkdir()
    settings = ["--set", "loss.perceptual=1.0", "--set", "data.synthetic_fraction=0.5"]
    settings += ["--set", f"data.sources=['{photos}']", "--set", f"data.valid_sources=['{tmp_path}/valid']"]
    settings += ["--set", f"init_from.perceptual={tmp_path}/lpips"]
    command = ["--config", str(config), "--workdir", str(tmp_path / "run"), "--check", *settings]
    assert cli.main(command) == cli.USAGE
    error = capsys.readouterr().err
    for problem in (
        "3 of the run's paths and settings cannot be used",
        f"init_from.perceptual: {tmp_path}/lpips: no such directory",
        f"data.sources: {photos} holds no photos",
        f"data.valid_sources: {tmp_path}/valid is neither a folder",
    ):
        assert problem in error
    Image.new("RGB", (300, 300)).save(photos / "a.png")
    settings[1], settings[7] = "loss.perceptual=0.0", f"data.valid_sources=['{photos}']"
    assert cli.main([*command[:5], *settings[:8]]) == cli.DONE
    assert "configuration and paths checked" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_check_opens_the_pairs_that_a_run_is_judged_on(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    pairs = {"hr": f"{tmp_path}/hr", "lr": f"{tmp_path}/lr"}
    command = ["--config", str(config), "--workdir", str(tmp_path / "run"), "--check", "--set", "eval.every=2"]
    command += ["--set", "eval.metrics=['psnr']", "--set", f"eval.pairs={pairs}"]
    assert cli.main(command) == cli.USAGE
    assert f"eval.pairs: no such file or folder: {tmp_path}/hr" in capsys.readouterr().err


def test_check_compares_what_is_here_with_the_settings(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    write_config(tmp_path / "tokenizer", "var_tokenizer", {})
    command = ["--config", str(config), "--workdir", str(tmp_path / "run"), "--check", "--set", "task=var"]
    command += ["--set", "loss={}", "--set", "model.vocab_size=16"]
    assert cli.main([*command, "--set", f"init_from.tokenizer={tmp_path}/tokenizer"]) == cli.USAGE
    assert "vocab_size=16" in capsys.readouterr().err
    assert cli.main(command) == cli.USAGE
    assert "init_from.tokenizer is needed" in capsys.readouterr().err


def test_a_chains_own_results_need_not_be_there_yet(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert cli.main(["--config", "configs/smoke.py", "--workdir", str(tmp_path), "--check"]) == cli.DONE
    assert capsys.readouterr().out.count("paths checked") == 6


def test_a_copied_configuration_finds_our_parts_from_anywhere(tmp_path: Path):
    copy = tmp_path / "mine.py"
    copy.write_text(Path("configs/box.py").read_text())
    assert "distill" in read_config_file(copy)
    copy.write_text("import not_there_at_all\n")
    with pytest.raises(ConfigError, match=r"mine\.py imports not_there_at_all, which is not installed"):
        read_config_file(copy)


@pytest.mark.parametrize("name", ["smoke", "box"])
def test_a_chain_runs_what_others_start_from_first(name: str, tmp_path: Path):
    """Whatever order the configuration lists its runs in: a ConfigDict sorts them by name."""
    order = []
    for path, settings in chain_of.runs(read_config_file(name), str(tmp_path)).items():
        for directory in settings["init_from"].values():
            if directory.startswith(str(tmp_path)):
                assert Path(directory).parent.name in order
        order.append(path.name)
    assert {"vqgan", "distill"} < set(order)


def test_runs_that_start_from_each_other_are_refused(tmp_path: Path):
    chain = {name: {"task": "teacher", "init_from": {"denoiser": f"{{workdir}}/{other}/model"}}
             for name, other in (("a", "b"), ("b", "a"))}  # fmt: skip
    with pytest.raises(ConfigError, match="start from each other"):
        chain_of.runs(chain, str(tmp_path))


def test_init_from_takes_names_as_ckpt_does(config: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture):
    monkeypatch.setenv("VDIFFSR_CACHE", str(tmp_path))
    command = [
        "--config",
        str(config),
        "--workdir",
        str(tmp_path / "run"),
        "--check",
        "--set",
        "init_from.teacher=sinsr",
    ]
    assert cli.main(command) == cli.USAGE
    asked = capsys.readouterr().err
    assert "475 MB" in asked
    assert "init_from.teacher: sinsr is not downloaded: agree to it with --yes" in asked
    (tmp_path / "models" / "sinsr").mkdir(parents=True)
    (tmp_path / "models" / "sinsr" / "config.json").write_text((BUNDLED_MODEL / "config.json").read_text())
    assert cli.main(command) == cli.DONE


def test_names_become_folders_and_what_the_chain_makes_stays(tmp_path: Path):
    chain = read_config_file("smoke")
    configs = {path: parse_train(values) for path, values in chain_of.runs(chain, str(tmp_path)).items()}
    asked: list[str] = []
    assert chain_of.with_starts(configs, lambda name: asked.append(name) or name) == configs
    assert not asked
    last = configs[tmp_path / "distill"]
    named = {tmp_path / "distill": dataclasses.replace(last, init_from=InitFrom(teacher="sinsr"))}
    (found,) = chain_of.with_starts(named, "models/{}".format).values()
    assert found.init_from == InitFrom(teacher="models/sinsr")
