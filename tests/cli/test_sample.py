"""The command itself: exit codes, one line per error, no traceback."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax import Upscaler
from vdiffsr_jax.cli import sample as cli
from vdiffsr_jax.photos.read import read
from vdiffsr_jax.weights import checkpoint

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, photo):
    (tmp_path / "in").mkdir()
    Image.fromarray(photo[:16, :20]).save(tmp_path / "in/a.png")
    return tmp_path / "in"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


def command(*arguments, cache):
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    environment |= {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache)}
    line = [sys.executable, "sample.py", *map(str, arguments)]
    return subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_upscaling_a_folder_with_one_bad_file(folder, tmp_path, plain_model, cache, photo):
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a jpeg")
    (tmp_path / "hr").mkdir()
    Image.fromarray(photo[:16, :20]).resize((80, 64)).save(tmp_path / "hr/a.png")
    process = command("-i", folder, "-o", tmp_path / "out", "--ckpt", plain_model, "-r", tmp_path / "hr", cache=cache)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert err.startswith("bad.jpg: ")
    assert "\x1b" not in err
    assert "1 upscaled, 1 failed; results in" in out
    assert "4 pixels cropped on every side" in out
    assert (tmp_path / "out/metrics.csv").read_text().startswith("image,PSNR,SSIM\na.png,")
    want = Upscaler.load(plain_model, devices=1)(photo[:16, :20])
    assert np.abs(read(tmp_path / "out/a.png").color.astype(int) - want).max() <= 1
    assert list(cache.iterdir())


def test_the_originals_command_line_and_an_interruption(folder, tmp_path, model, cache, photo):
    arguments = ["--scale", 4, "--ckpt1", model, "--ckpt2", model, "--one_step"]
    process = command("-i", folder, "-o", tmp_path / "out", *arguments, cache=cache)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert all("/1 photos" in line for line in err.splitlines())  # where it takes a minute
    assert read(tmp_path / "out/a.png").color.shape == (64, 80, 3)

    for i in range(200):
        Image.fromarray(photo).save(folder / f"b{i:03}.png")
    process = command("-i", folder, "-o", tmp_path / "out", "--skip_existing", *arguments, cache=cache)
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "out").glob("b*.png"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.strip().endswith("interrupted; finished results stay, and the same command goes on")
    assert "Traceback" not in err
    results = list((tmp_path / "out").iterdir())
    assert 3 <= len(results) < 201
    for path in results:
        if path.name == ".vdiffsr_results.jsonl":
            continue
        assert path.suffix == ".png"
        assert not path.name.startswith(".")
        read(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "nowhere.png"], "no such file or folder: nowhere.png"),
        (["-i", "{in}", "--ckpt", "nowhere"], "nowhere: no such directory"),
        (["-i", "{in}", "--ckpt", "{in}"], "is no checkpoint"),
        (["-i", "{in}", "-o", "{in}"], "would replace an input"),
        (["-i", "{in}", "-o", "{in}/a.png"], "would replace an input"),
        (["-i", "{in}/a.png", "{in}/../old", "-o", "{in}/../c.png"], "is a file, for 2 inputs; give a folder"),
        (["-i", ""], "an input without a name"),
        (["-i", "{in}", "--ckpt2", "x"], "--ckpt2 needs --ckpt1"),
        (["-i", "{in}", "--outscale", "0"], "--outscale"),
        (["-i", "{in}", "--quality", "0"], "--quality"),
        (["-i", "{in}", "--suffix", "a/b"], "--suffix"),
        (["-i", "{in}", "--max_megapixels", "0"], "--max_megapixels"),
        (["-i", "{in}", "--max_megapixels", "inf"], "--max_megapixels inf must be above 0, and finite"),
        (["-i", "{in}", "--max_megapixels", "nan"], "--max_megapixels nan must be above 0, and finite"),
        (["-i", "{in}", "-r", "nowhere"], "no such file or folder: nowhere"),
        (["-i", "{in}", "-o", "{in}/../old"], "choose --skip_existing or --overwrite"),
        (["-i", "{in}", "-o", "{in}/a.png/x"], "cannot be made"),
        (["-i", "{in}", "--ckpt", "{model}", "--steps", "15"], "choose 1 or 4"),
        (["-i", "{in}", "--ckpt", "{model}", "--steps", "3"], "choose 1 or 4"),
        (["-i", "{in}", "--ckpt", "{model}", "--steps", "0"], "choose 1 or 4"),
        (["-i", "{in}", "--ckpt", "{model}", "--scale", "2"], "does x4"),
        (["-i", "{in}", "--ckpt", "{model}", "--overlap", "99"], "overlap=99"),
        (["-i", "{in}", "--ckpt", "{model}", "--devices", "99"], "this machine has"),
        (["-i", "{in}", "--ckpt", "{model}", "--fidelity", "0.5"], "fidelity=0.5: this model is one student"),
    ],
)
def test_wrong_usage(folder, tmp_path, plain_model, capsys, monkeypatch, arguments, message):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/a.png").write_bytes(b"x")
    monkeypatch.setattr(cli.compile_cache, "use", lambda choice: None)
    monkeypatch.chdir(tmp_path)
    known = {"in": folder, "model": plain_model}
    assert cli.main([a.format(**known) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("error: ") or "error: " in err.splitlines()[-1]
    assert "Traceback" not in err


def test_without_a_bundled_model_a_checkpoint_is_asked_for(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("vdiffsr_jax.sampling.bundled.BUNDLED_MODEL", tmp_path / "none")
    assert cli.main(["-i", str(folder), "-o", str(tmp_path / "out")]) == 2
    assert "give another with --ckpt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["-i", "x", "--steps", "all"], ["-i", "x", "--skip_existing", "--overwrite"]]
)
def test_argparse_refuses_with_2(arguments):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2


def test_unexpected_errors_keep_their_trace(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_sample", lambda args: 1 // 0)
    assert cli.main(["-i", "x"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: ZeroDivisionError: integer division or modulo by zero")


def test_importing_the_package_and_help_do_not_import_jax():
    code = (
        "import sys, vdiffsr_jax, vdiffsr_jax.cli.sample as c\n"
        "try: c.main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_the_same_command_goes_on_and_says_when_all_is_done(folder, plain_model, capsys, monkeypatch, photo):
    from vdiffsr_jax.sampling import upscaler

    monkeypatch.setattr(cli.compile_cache, "use", lambda choice: None)
    shared = Upscaler.load(plain_model, devices=1)
    loaded = []
    monkeypatch.setattr(upscaler.Upscaler, "load", lambda *args, **options: loaded.append(1) or shared)
    line = ["-i", str(folder), "-o", str(folder), "--format", "jpeg", "--ckpt", str(plain_model)]
    assert cli.main(line) == 0
    assert cli.main(line) == 0
    said = capsys.readouterr()
    assert "nothing to do: 1 done before" in said.out
    assert "1 results of earlier runs are no inputs" in said.err
    assert loaded == [1]
    Image.fromarray(photo[:16, :16]).save(folder / "b.png")
    assert cli.main(line) == 0
    assert "1 upscaled, 1 done before" in capsys.readouterr().out
    assert cli.main([*line, "--skip_existing"]) == 0
    assert "nothing to do: 2 skipped (their results exist)" in capsys.readouterr().out
    assert len(loaded) == 2
    assert cli.main([*line, "--quality", "50"]) == 2
    assert "choose --skip_existing or --overwrite" in capsys.readouterr().err
    assert cli.main([*line, "--suffix", "_x4"]) == 0
    assert cli.main([*line, "--suffix", "_x4"]) == 0
    assert sorted(p.name for p in folder.glob("[a-z]*")) == ["a.jpg", "a.png", "a_x4.jpg", "b.jpg", "b.png", "b_x4.jpg"]


def test_sheets_lie_below_the_output_and_replace_nothing(tmp_path, plain_model, capsys, photo):
    """Two folders with one name in them, an original that is called as a sheet, and a folder called compare."""
    for name in ("A/a.png", "B/a.png", "A/a_png.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(photo[:16, :16]).save(tmp_path / name)
    given = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    before = [path.read_bytes() for path in given]
    asked = ["-o", str(tmp_path / "out"), "--ckpt", str(plain_model), "--devices", "1", "--compare"]
    assert cli.main(["-i", str(tmp_path / "A"), str(tmp_path / "B"), *asked]) == 0
    assert [path.read_bytes() for path in given] == before
    assert sorted(path for path in tmp_path.rglob("*.png") if tmp_path / "out" not in path.parents) == given
    names = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert {path.name for path in (tmp_path / "out/compare").iterdir()} == names
    assert len(names) == 3
    (tmp_path / "in/compare").mkdir(parents=True)
    Image.fromarray(photo[:16, :16]).save(tmp_path / "in/compare/a.png")
    assert cli.main(["-i", str(tmp_path / "in/**/*.png"), *asked]) == 2
    assert "would lie among the sheets of --compare" in capsys.readouterr().err


def test_odd_names_several_inputs_and_a_named_file(folder, tmp_path, plain_model, capsys, monkeypatch, photo):
    from vdiffsr_jax.sampling import upscaler

    monkeypatch.setattr(cli.compile_cache, "use", lambda choice: None)
    shared = Upscaler.load(plain_model, devices=1)
    monkeypatch.setattr(upscaler.Upscaler, "load", lambda *args, **options: shared)
    monkeypatch.setenv("HOME", str(tmp_path))
    odd = os.fsdecode(b"\xff\nx.png")
    Image.fromarray(photo[:16, :16]).save(tmp_path / "c.png")
    os.rename(tmp_path / "c.png", folder / odd)
    (tmp_path / "hr").mkdir()
    Image.fromarray(photo[:16, :16]).resize((64, 64)).save(tmp_path / "hr/c.png")
    os.rename(tmp_path / "hr/c.png", tmp_path / "hr" / odd)
    arguments = ["-i", str(folder / "a.png"), str(folder / odd), "--ckpt", str(plain_model), "-r", str(tmp_path / "hr")]
    assert cli.main([*arguments, "--output=~/x"]) == 1  # a.png has no reference
    said = capsys.readouterr()
    assert "2 upscaled, 1 not scored" in said.out
    assert "nan" not in said.out
    assert (tmp_path / "x/metrics.csv").read_text().splitlines()[1].startswith("\\udcff\\nx.png,")
    assert cli.main(["-i", str(folder / "a.png"), "-o", str(tmp_path / "one.webp"), "--ckpt", str(plain_model)]) == 0
    with Image.open(tmp_path / "one.webp") as image:
        assert (image.format, image.size) == ("WEBP", (80, 64))


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_end_it_once_in_order(tmp_path, number, code, word):
    program = (
        "import sys, os, time\nfrom vdiffsr_jax.cli import sample\n"
        "def work(args):\n"
        "    try: print('ready', flush=True); time.sleep(60)\n"
        f"    finally: [os.kill(os.getpid(), n) for n in ({int(number)}, {int(signal.SIGTERM)})]; time.sleep(0.2)\n"
        "sample._sample = work\nsys.exit(sample.main(['-i', 'x']))"
    )
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **streams)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, f"{word}; finished results stay, and the same command goes on\n")


def test_streams_that_nobody_reads_stop_nothing(tmp_path):
    program = (
        "import sys\nfrom vdiffsr_jax.cli import sample\n"
        "def work(args):\n"
        "    for _ in range(3): print('a line ' * 5000); print('said', file=sys.stderr); sys.stderr.flush()\n"
        "    sys.stdout.flush(); open(sys.argv[1], 'w').write('done'); return 0\n"
        "sample._sample = work\nsys.exit(sample.main(['-i', 'x']))"
    )
    for n, redirection in enumerate(("| head -c 0", "2>&1 | head -c 0", "2>&-", ">&-", ">&- 2>&-")):
        line = f'set -o pipefail; "{sys.executable}" -c "$1" "$2" {redirection}'
        words = ["bash", "-c", line, "bash", program, str(tmp_path / str(n))]
        done = subprocess.run(words, cwd=ROOT, capture_output=True)
        assert (done.returncode, (tmp_path / str(n)).read_text()) == (0, "done"), (redirection, done.stderr)
        assert b"Traceback" not in done.stderr
        assert b"Broken" not in done.stderr


def test_a_shuffled_prior_needs_the_whole_list(folder, tmp_path, photo, capsys):
    config = tiny_config()
    config = dataclasses.replace(config, prior=dataclasses.replace(config.prior, mode="shuffled"))
    checkpoint.save_model(tmp_path / "control", random_items(config), kind="vdiffsr", config=config)
    Image.fromarray(photo[20:36, :16]).save(folder / "b.png")
    (tmp_path / "out").mkdir()
    Image.fromarray(photo).save(tmp_path / "out/a.png")
    arguments = ["-i", str(folder), "-o", str(tmp_path / "out"), "--ckpt", str(tmp_path / "control")]
    assert cli.main([*arguments, "--skip_existing"]) == 2
    assert "prior.mode=shuffled takes the prior of the next photo in the list" in capsys.readouterr().err
