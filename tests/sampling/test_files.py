"""Inputs are found, results are told apart, nothing of the user's is replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from vdiffsr_jax.sampling import files
from vdiffsr_jax.sampling.files import UsageError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "in"
    for name in ("b.png", "a.png", "a.jpg", "A.webp", "notes.txt", ".hidden.png", "sub/a.png", "sub/deep/c.tif"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def names(tasks, output):
    return {t.name: t.target.relative_to(output).as_posix() for t in tasks}


def test_folder_file_and_glob(folder):
    assert [r.as_posix() for _, r in files.find(str(folder))] == ["A.webp", "a.jpg", "a.png", "b.png"]
    assert files.find(str(folder / "notes.txt")) == [(folder / "notes.txt", Path("notes.txt"))]
    found = [r.as_posix() for _, r in files.find(str(folder / "**" / "*.png"))]
    assert found == ["a.png", "b.png", "sub/a.png"]


def test_colliding_names_are_told_apart(folder, tmp_path):
    out = tmp_path / "out"
    tasks = files.plan(files.find(str(folder)), out, format="png", suffix="_x4")
    assert names(tasks, out) == {
        "A.webp": "A_webp_x4.png",
        "a.jpg": "a_jpg_x4.png",
        "a.png": "a_png_x4.png",
        "b.png": "b_x4.png",
    }


def test_what_still_collides_is_numbered(tmp_path):
    inputs = [(tmp_path / n, Path(n)) for n in ("a.jpg", "a.png", "a_jpg.bmp")]
    out = tmp_path / "out"
    assert names(files.plan(inputs, out, format="png", suffix=""), out) == {
        "a.jpg": "a_jpg.png",
        "a.png": "a_png.png",
        "a_jpg.bmp": "a_jpg_2.png",
    }


def test_sub_folders_are_mirrored_and_formats_kept(folder, tmp_path):
    out = tmp_path / "out"
    tasks = files.plan(files.find(str(folder / "**" / "*.*")), out, format="same", suffix="")
    assert names(tasks, out)["sub/deep/c.tif"] == "sub/deep/c.tif"
    assert names(tasks, out)["a.jpg"] == "a.jpg"
    assert {t.name: t.format for t in tasks}["notes.txt"] == "png"


def test_a_result_never_replaces_an_input(folder):
    with pytest.raises(UsageError, match="would replace an input"):
        files.plan(files.find(str(folder / "b.png")), folder, format="png", suffix="")
    assert files.plan(files.find(str(folder / "b.png")), folder, format="png", suffix="_x4")


@pytest.mark.parametrize(("pattern", "message"), [("none.png", "no such file"), ("*.gif", "no file matches")])
def test_nothing_found_is_named(folder, pattern, message):
    with pytest.raises(UsageError, match=message):
        files.find(str(folder / pattern))


def test_an_empty_folder_and_a_file_as_output(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no images"):
        files.find(str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="is a file"):
        files.plan(files.find(str(folder)), folder / "b.png", format="png", suffix="")


def test_references_by_name(folder, tmp_path):
    hr = tmp_path / "hr"
    hr.mkdir()
    (hr / "b.tif").write_bytes(b"x")
    tasks = files.plan(files.find(str(folder)), tmp_path / "out", format="png", suffix="")
    assert files.references(tasks, str(hr)) == {"b.png": hr / "b.tif"}
    (hr / "b.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="two references for b"):
        files.references(tasks, str(hr))
    with pytest.raises(UsageError, match="no reference with the name"):
        files.references(tasks[:2], str(hr / "*.png"))
