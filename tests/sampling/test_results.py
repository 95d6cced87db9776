"""The list of results: what is own, what is done; torn lines, copies and two runs do not confuse it."""

from __future__ import annotations

import os
import shutil

import pytest

from vdiffsr_jax.photos.write import write_whole
from vdiffsr_jax.sampling import files, results
from vdiffsr_jax.sampling.files import UsageError
from vdiffsr_jax.sampling.results import ResultList, own_results

WORK = {"steps": 1, "model": ["abc"]}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def make(folder, source, target, work=WORK, content=b"result", process=None):
    own = ResultList(folder, process)
    write_whole(folder / target, [content], own.adding(folder / target, folder / source, work))
    return own


def test_what_was_written_is_own_until_somebody_changes_it(folder):
    own = make(folder, "a.png", "a.jpg")
    assert own.holds(folder / "a.jpg")
    assert ResultList(folder).holds(folder / "a.jpg")
    assert not ResultList(folder).holds(folder / "a.png")
    (folder / "a.jpg").write_bytes(b"mine now")
    assert not ResultList(folder).holds(folder / "a.jpg")


def test_done_means_this_input_these_settings_and_this_model(folder):
    make(folder, "a.png", "a.jpg")
    own, a, result = ResultList(folder), folder / "a.png", folder / "a.jpg"
    assert own.is_done(a, result, WORK)
    assert not own.is_done(a, result, WORK | {"steps": 4})
    assert not own.is_done(folder / "b.png", result, WORK)
    a.write_bytes(b"another photo")
    assert not own.is_done(a, result, WORK)


def test_a_copied_folder_knows_its_results_by_their_content(folder, tmp_path_factory):
    make(folder, "a.png", "a.jpg")
    copy = tmp_path_factory.mktemp("copy") / "c"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    os.utime(copy / "a.jpg", (1, 1))
    assert ResultList(copy).holds(copy / "a.jpg")
    (copy / "a.jpg").write_bytes(b"RESULT")
    assert not ResultList(copy).holds(copy / "a.jpg")


def test_torn_lines_are_passed_over(folder):
    make(folder, "a.png", "a.jpg")
    (file,) = folder.glob(".vdiffsr*")
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        make(folder, "b.png", "b.jpg")
        assert ResultList(folder).holds(folder / "b.jpg")
    file.write_bytes(b"\xff\x00 no json\n[1]\n{}\n" + whole)
    assert ResultList(folder).holds(folder / "a.jpg")


def test_several_runs_share_a_folder(folder):
    first, second = ResultList(folder, 0), ResultList(folder, 1)
    for own, name in ((first, "a"), (second, "b")):
        write_whole(folder / f"{name}.jpg", [b"x"], own.adding(folder / f"{name}.jpg", folder / f"{name}.png", WORK))
    own = ResultList(folder)
    assert own.holds(folder / "a.jpg")
    assert own.holds(folder / "b.jpg")


@pytest.mark.parametrize("pattern", ["", "**/*.*", "*.*"])
def test_results_are_no_inputs_wherever_their_list_lies(folder, pattern):
    (folder / "results").mkdir()
    make(folder, "a.png", "a_x4.png")
    own = ResultList(folder / "results")
    for name in ("a.png", "b.png"):
        target = folder / "results" / name
        write_whole(target, [b"result"], own.adding(target, folder / name, WORK))
    inputs, notes = files.find_all([str(folder / pattern)], own_results(ResultList(folder)))
    assert [relative.as_posix() for _, relative in inputs] == ["a.png", "b.png"]
    assert any("results of earlier runs are no inputs" in note for note in notes)


def test_a_folder_of_results_that_is_named_itself_is_meant(folder):
    make(folder, "a.png", "a_x4.png")
    (folder / "a.png").unlink()
    (folder / "b.png").unlink()
    inputs, _ = files.find_all([str(folder)], own_results(ResultList(folder / "x16")))
    assert [path.name for path, _ in inputs] == ["a_x4.png"]
    with pytest.raises(UsageError, match="nothing but results"):
        files.find_all([str(folder)], own_results(ResultList(folder)))


def test_a_name_that_is_no_utf8_is_listed(folder):
    name = os.fsdecode(b"\xff\n.png")
    (folder / name).write_bytes(b"x")
    make(folder, name, name + ".jpg")
    assert ResultList(folder).is_done(folder / name, folder / (name + ".jpg"), WORK)


def test_fingerprints_tell_checkpoints_apart(folder):
    one = results.fingerprint(folder)
    assert one == results.fingerprint(folder)
    (folder / "sub").mkdir()
    (folder / "sub/array").write_bytes(b"1234")
    assert results.fingerprint(folder) != one
