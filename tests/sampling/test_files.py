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
    with pytest.raises(UsageError, match="is a file, for 4 inputs"):
        files.destination(folder / "b.png", 4, None)
    with pytest.raises(UsageError, match="is a file; give a folder"):
        files.destination(folder / "notes.txt", 1, None)


def test_one_input_may_go_to_a_named_file(folder):
    assert files.destination(folder / "x.jpg", 1, None) == (folder, "x.jpg", "jpeg")
    assert files.destination(folder / "x.jpg", 1, "jpeg") == (folder, "x.jpg", "jpeg")
    assert files.destination(folder / "v1.5", 9, None) == (folder / "v1.5", None, "png")
    assert files.destination(folder / "sub", 1, "webp") == (folder / "sub", None, "webp")
    with pytest.raises(UsageError, match="does not go with --format png"):
        files.destination(folder / "x.jpg", 1, "png")
    with pytest.raises(UsageError, match="cannot be written"):
        files.destination(folder / "x.avif", 1, None)
    (task,) = files.plan(files.find(str(folder / "b.png")), folder, format="jpeg", suffix="", name="x.jpg")
    assert (task.target, task.format) == (folder / "x.jpg", "jpeg")


def test_the_home_folder_is_meant_by_its_sign_and_nothing_by_nothing(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert [r.as_posix() for _, r in files.find("~/b*.png")] == ["b.png"]
    assert [r.as_posix() for _, r in files.find("~/b.png")] == ["b.png"]
    with pytest.raises(UsageError, match="without a name"):
        files.find("")


def test_each_real_file_is_found_once_however_links_lead_in_circles(folder):
    (folder / "aa_loop").symlink_to(folder)
    (folder / "sub/up").symlink_to(folder)
    (folder / "a0.png").symlink_to(folder / "b.png")
    found = [r.as_posix() for _, r in files.find(str(folder / "**" / "*.png"))]
    assert found == ["a.png", "b.png", "sub/a.png"]
    assert "b.png" in [r.as_posix() for _, r in files.find(str(folder))]
    inputs, _ = files.find_all([str(folder / "b.png"), str(folder / "a0.png"), str(folder)], lambda path, named: False)
    assert [r.as_posix() for _, r in inputs] == ["b.png", "A.webp", "a.jpg", "a.png"]


def test_what_is_left_out_is_counted_by_kind(folder):
    for name in ("1.gif", "2.GIF", "photo.heic"):
        (folder / name).write_bytes(b"x")
    for name in ("w.jfif", "w.jpe"):
        (folder / name).write_bytes(b"x")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    inputs, (note,) = files.find_all([str(folder)], lambda path, named: False)
    assert {"w.jfif", "w.jpe"} <= {r.name for _, r in inputs}
    assert note.startswith(f"left out of {folder}: ")
    assert {"2 .gif", "1 .txt", "1 link to nothing"} <= set(note.partition(": ")[2].split(", "))
    assert ("heic" in note) == (".heic" not in files.SUFFIXES)


def test_names_are_printed_in_one_line():
    assert files.printable(Path("a/b\n\udcff\x1b[1m日.png")) == "a/b\\n\\udcff\\x1b[1m日.png"


def test_references_by_name(folder, tmp_path):
    hr = tmp_path / "hr"
    hr.mkdir()
    (hr / "b.tif").write_bytes(b"x")
    inputs = files.find(str(folder))
    tasks = files.plan(inputs, tmp_path / "out", format="png", suffix="")
    assert files.references(tasks, inputs, str(hr)) == {"b.png": hr / "b.tif"}
    (hr / "b.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="two references for b"):
        files.references(tasks, inputs, str(hr))
    with pytest.raises(UsageError, match="no reference with the name"):
        files.references(tasks[:2], inputs, str(hr / "*.png"))
