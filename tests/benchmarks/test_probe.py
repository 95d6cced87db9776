"""The linear probe finds what is there, finds nothing where nothing is, and runs on a tiny prior."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks import probe
from tests.pictures import dead_leaves
from tests.training import tiny
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.weights import checkpoint


def test_what_is_linear_is_explained_and_noise_is_not():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((6, 3))

    def part(number):
        x = 5 + rng.standard_normal((number, 6)) * [1, 10, 0.1, 1, 1, 1]
        return x @ mixing - 7, x

    linear = [part(n) for n in (400, 100, 100)]
    assert probe.explained(*linear) > 0.999
    unrelated = [(goal, rng.standard_normal(x.shape)) for goal, x in linear]
    assert abs(probe.explained(*unrelated)) < 0.1


def test_neighbours_stand_in_their_places():
    maps = np.arange(2 * 3 * 3, dtype=float).reshape(2, 3, 3, 1)
    near = probe.neighbours(maps)
    assert near.shape == (2, 3, 3, 9)
    np.testing.assert_array_equal(near[0, 1, 1], np.arange(9))
    np.testing.assert_array_equal(near[1, 0, 0], [9, 9, 10, 9, 9, 10, 12, 12, 13])


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    path = tmp_path_factory.mktemp("probed") / "prior"
    config = kinds.parse_config("pvar", tiny.PRIOR)
    abstract, rng = kinds.network("pvar", "pvar", config).abstract, np.random.default_rng(0)
    drawn = {name: rng.standard_normal(leaf.shape).astype(np.float32) / 4 for name, leaf in flatten(abstract).items()}
    checkpoint.save_model(path, {"pvar": unflatten(drawn, abstract)}, kind="pvar", config=config)
    return path


def test_a_line_for_every_level(prior, tmp_path, capsys):
    for seed, folder in enumerate(("train", "valid")):
        (tmp_path / folder).mkdir()
        for i in range(4):
            Image.fromarray(dead_leaves(4 * seed + i, 32, 32)).save(tmp_path / folder / f"{i}.png")
    flags = ["--prior", str(prior), "--photos", str(tmp_path / "train"), "--held-out", str(tmp_path / "valid")]
    assert probe.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 windows to fit to, 64 held out")
    shares = np.array([[float(cell) for cell in line.split("|")[2:-1]] for line in lines[3:]])
    assert shares.shape == (len(tiny.LEVELS), len(probe.SOURCES))
    assert (shares < 1).all()


@pytest.mark.parametrize(("photos", "per_photo", "fitted"), [(4, 2, 4), (11, 1, 7), (99, 2, 150), (5, 3, 9), (2, 8, 8)])
def test_other_photos_choose_the_ridge(photos, per_photo, fitted):
    windows = [(n, n) for n in range(photos) for _ in range(per_photo)]
    fit_to, choose_by = probe.split(windows, per_photo)
    assert len(fit_to) == fitted
    assert fit_to + choose_by == windows
    assert min(len(fit_to), len(choose_by)) >= probe.BATCH
    assert not {n for n, _ in fit_to} & {n for n, _ in choose_by}


def test_eleven_windows_are_enough(prior, tmp_path, capsys):
    for i in range(11):
        Image.fromarray(dead_leaves(i, 32, 32)).save(tmp_path / f"{i}.png")
    flags = ["--photos", str(tmp_path), "--held-out", str(tmp_path), "--per-photo"]
    assert probe.main(["--prior", str(prior), *flags, "1"]) == 0
    Image.fromarray(dead_leaves(0, 32, 32)).save(tmp_path / "one.png")
    flags = ["--photos", str(tmp_path / "one.png"), "--held-out", str(tmp_path), "--per-photo"]
    assert probe.main(["--prior", str(prior), *flags, "8"]) == 2
    assert "1 photos of 8 windows are too few" in capsys.readouterr().err
    (tmp_path / "one.png").write_bytes(b"")
    assert probe.main(["--prior", str(prior), *flags, "8"]) == 1
    assert "one.png is empty" in capsys.readouterr().err


def test_held_out_windows_lie_elsewhere(prior, tmp_path, monkeypatch):
    for i in range(4):
        Image.fromarray(dead_leaves(i, 64, 64)).save(tmp_path / f"{i}.png")
    seen = []
    monkeypatch.setattr(probe, "table", lambda probed, *windows: seen.append(windows))
    flags = ["--photos", str(tmp_path), "--held-out", str(tmp_path)]
    assert probe.main(["--prior", str(prior), *flags]) == 0
    fit_to, _, held_out = seen[0]
    assert (fit_to[0][0] != held_out[0][0]).any()


def test_what_is_no_prior_is_said(tmp_path, capsys):
    flags = ["--photos", str(tmp_path), "--held-out", str(tmp_path)]
    assert probe.main(["--prior", str(tmp_path / "none"), *flags]) == 2
    assert "no such directory" in capsys.readouterr().err
