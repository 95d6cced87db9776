"""The grid's cells, what is refused before training, what is skipped after, and one real grid (slow)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time

import pytest
from etils import epath

from tests.sampling.conftest import random_items, tiny_config
from tests.training.conftest import write_config
from vdiffsr_jax.config import to_dict
from vdiffsr_jax.evaluation import ablation, command
from vdiffsr_jax.evaluation.ablation import main
from vdiffsr_jax.evaluation.grid import cells, parse_switch
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.weights import checkpoint

CONFIG = """
from tests.sampling.conftest import tiny_config
from vdiffsr_jax.config import to_dict

def get_config():
    return {{
        "task": "teacher",
        "model": to_dict(tiny_config(num_steps=4)),
        "data": {{"synthetic_fraction": 1.0, "crop_size": 64, "degradation": "bicubic"}},
        "batch_size": 2,
        "optimizer": {{"warmup": 1}},
        "eval": {{"every": 0}},
        "init_from": {{"first_stage": {model!r}, "pvar": {model!r}}},
    }}
"""


def switches(*texts):
    return [parse_switch(text) for text in texts]


def test_a_full_grid_is_every_combination():
    found = cells(switches("cogu=true,false", "cspa.levels=(),(0,1)"), one_at_a_time=False)
    assert [cell.name for cell in found] == [
        "cogu-true+cspa.levels-all", "cogu-true+cspa.levels-0_1",
        "cogu-false+cspa.levels-all", "cogu-false+cspa.levels-0_1",
    ]  # fmt: skip
    assert found[3].settings == ("cogu=false", "cspa.levels=(0,1)")


def test_one_at_a_time_departs_from_the_first_values():
    found = cells(switches("cogu=true,false", "prior.mode=teacher_forced,shuffled,random_weights"), one_at_a_time=True)
    assert {cell.name: cell.settings for cell in found} == {
        "base": ("cogu=true", "prior.mode=teacher_forced"),
        "cogu-false": ("cogu=false", "prior.mode=teacher_forced"),
        "prior.mode-shuffled": ("cogu=true", "prior.mode=shuffled"),
        "prior.mode-random_weights": ("cogu=true", "prior.mode=random_weights"),
    }


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["cougar=true"], "unknown switch 'cougar'; known: prior, "),
        (["cogu"], "write cogu=VALUE,VALUE"),
        (["cogu=true,,"], "write cogu=VALUE,VALUE"),
        (["cogu=true,true"], "values that differ"),
        (["cogu=true", "cogu=false"], "cogu is given twice"),
    ],
)
def test_wrong_switches_are_refused(texts, why):
    with pytest.raises(UsageError, match=why):
        cells(switches(*texts), one_at_a_time=False)


@pytest.fixture
def config(tmp_path, model):
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format(model=str(model)))
    return path


@pytest.fixture
def arguments(config, tmp_path, photos):
    return ["--config", str(config), "--workdir", str(tmp_path / "grid"), "--steps", "7", "--switch", "cogu=true,false",
            "--", "--photos", str(photos)]  # fmt: skip


def test_a_dry_run_lists_the_commands(arguments, capsys):
    assert main(["--dry-run", *arguments]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "# cogu-true: to train"
    assert out[1].endswith("/grid/cogu-true --set steps=7 --set cogu=true")
    assert out[3].endswith("/grid/cogu-false --set steps=7 --set cogu=false")
    assert "evaluate.py --output" in out[5]
    assert "--ckpt cogu-false=" in out[5]
    assert "--photos" in out[5]


def test_finished_runs_are_skipped_failed_ones_left_out(arguments, model, tmp_path, monkeypatch, capsys):
    trained, evaluated = [], []

    def run(command):
        folder = tmp_path / "grid" / ("cogu-true" if "cogu=true" in command else "cogu-false")
        trained.append(folder.name)
        if folder.name == "cogu-false" and len(trained) == 2:
            return 1
        shutil.copytree(model, folder / "model")
        return 0

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr(ablation, "_check_runs", lambda commands: None)
    monkeypatch.setattr(command, "run", lambda args: evaluated.append(args.ckpt) or 0)
    assert main(arguments) == 1
    assert "cogu-false: training failed (exit code 1)" in capsys.readouterr().err
    assert [flag.split("=")[0] for flag in evaluated[0] if "grid/cogu" in flag] == ["cogu-true"]
    assert main(arguments) == 0
    assert trained == ["cogu-true", "cogu-false", "cogu-false"]
    assert sum("grid/cogu" in flag for flag in evaluated[1]) == 2

    assert main([flag.replace("7", "8") if flag == "7" else flag for flag in arguments]) == 2
    assert "trained with other settings" in capsys.readouterr().err


def test_a_stopped_run_stops_the_grid(arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ablation, "run", lambda command: 75)
    monkeypatch.setattr(ablation, "_check_runs", lambda commands: None)
    assert main(arguments) == 75
    assert "stopped in cogu-true; the same command continues" in capsys.readouterr().err
    record = json.loads((tmp_path / "grid/cogu-true/ablation.json").read_text())
    assert record["settings"] == ["steps=7", "cogu=true"]
    assert record["config"]["task"] == "teacher"


def test_what_evaluation_would_refuse_is_refused_before_training(arguments, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "run", lambda command: pytest.fail("trained"))
    assert main([*arguments, "--ckpt", "teacher=nowhere"]) == 2
    assert "nowhere: no such directory" in capsys.readouterr().err
    assert main([*arguments[:-1], "nothing"]) == 2
    assert "no such file or folder: nothing" in capsys.readouterr().err


def test_what_training_would_refuse_is_refused_first(arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ablation, "run", lambda command: pytest.fail("trained"))
    arguments[arguments.index("cogu=true,false")] = "prior.mode=sideways"
    assert main(arguments) == 2
    assert "prior.mode-sideways: " in (error := capsys.readouterr().err)
    assert "teacher_forced" in error
    assert not (tmp_path / "grid").exists()


def test_a_cell_that_its_start_does_not_fit_is_refused_first(arguments, config, monkeypatch, capsys, tmp_path):
    write_config(tmp_path / "whole", "vdiffsr", to_dict(tiny_config(num_steps=4)))
    config.write_text(CONFIG.format(model=str(tmp_path / "whole")))
    monkeypatch.setattr(ablation, "run", lambda command: pytest.fail("trained"))
    arguments[arguments.index("cogu=true,false")] = "prior.kind=var,codes"
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "prior.kind-codes: init_from.pvar does not fit model.prior: kind=var there, codes here" in error


def test_a_refusal_while_training_ends_the_grid(arguments, monkeypatch, capsys):
    monkeypatch.setattr(ablation, "run", lambda command: 2)
    monkeypatch.setattr(ablation, "_check_runs", lambda commands: None)
    assert main(arguments) == 2
    assert "cogu-true: training refuses it" in capsys.readouterr().err


def test_a_run_that_was_killed_while_its_record_was_written_begins_anew(arguments, tmp_path, monkeypatch):
    (tmp_path / "grid/cogu-true").mkdir(parents=True)
    (tmp_path / "grid/cogu-true/.ablation.json.0123.partial").write_text('{"sett')
    monkeypatch.setattr(ablation, "run", lambda command: 75)
    monkeypatch.setattr(ablation, "_check_runs", lambda commands: None)
    assert main(arguments) == 75
    assert (tmp_path / "grid/cogu-true/ablation.json").is_file()


def test_a_record_is_written_whole(arguments, tmp_path, monkeypatch):
    def killed(partial, target):
        assert partial.read_text().endswith("}\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(type(epath.Path("x")), "replace", killed)
    monkeypatch.setattr(ablation, "_check_runs", lambda commands: None)
    assert main(arguments) == 75
    assert not (tmp_path / "grid/cogu-true/ablation.json").exists()


def test_a_run_that_leaves_no_model_is_said_to_have_none(arguments, model, tmp_path, monkeypatch, capsys):
    def run(command):
        if "cogu=true" in command:
            shutil.copytree(model, tmp_path / "grid/cogu-true/model")
        return 0

    monkeypatch.setattr(ablation, "run", run)
    monkeypatch.setattr(ablation, "_check_runs", lambda commands: None)
    monkeypatch.setattr(command, "run", lambda args: 0)
    assert main(arguments) == 1
    assert "cogu-false: its run has left no model; left out of the table" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(arguments, tmp_path, capsys):
    (tmp_path / "grid/cogu-true").mkdir(parents=True)
    (tmp_path / "grid/cogu-true/notes.txt").write_text("mine")
    assert main(arguments) == 2
    assert "is not of an ablation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"), [("x = 1", "no function get_config"), ("def get_config():\n return {}", "one run")]
)
def test_configs_of_something_else_are_refused(text, why, config, arguments, capsys):
    config.write_text(text)
    assert main(["--dry-run", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_sigterm_reaches_the_run_which_saves_first(tmp_path):
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(60)\n"
    )

    def ask():
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask)
    thread.start()
    assert ablation.run([sys.executable, "-c", code]) == 75
    thread.join()


@pytest.mark.slow
def test_a_real_grid_from_training_to_the_table(arguments, config, lite0, tmp_path):
    whole = tiny_config(num_steps=4)
    checkpoint.save_model(tmp_path / "whole", random_items(whole), kind="vdiffsr", config=whole)
    config.write_text(CONFIG.format(model=str(tmp_path / "whole")))
    arguments[arguments.index("7")] = "1"
    assert main([*arguments, "--crop", "64", "--perceptual", str(lite0), "--steps", "cogu-true:4"]) == 0
    table = (tmp_path / "grid/evaluation/table.md").read_text()
    assert "LPIPS" not in table
    for row in (
        "| method | steps | s/picture | PSNR-Y | SSIM-Y | feature distance |",
        "| cogu-true | 4 |",
        "| cogu-false | 1 |",
    ):
        assert row in table
    assert (tmp_path / "grid/evaluation/sheet.png").is_file()
