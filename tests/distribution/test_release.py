"""What goes into a release: configurations by name, the notes of a tag."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from vdiffsr_jax import config_file
from vdiffsr_jax.config import ConfigError

ROOT = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## 0.2.0 (2026-12-01)\n\n- Second.\n\n## 0.1.0 (unreleased)\n\n- First.\n"


@pytest.fixture(scope="module")
def release_notes():
    spec = importlib.util.spec_from_file_location("release_notes", ROOT / ".ci" / "release_notes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.notes


@pytest.mark.parametrize("name", ["smoke", "smoke.py", "configs/smoke.py"])
def test_a_configuration_is_found_by_its_name_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.find_config_file(name) == ROOT / "configs" / "smoke.py"


def test_a_file_of_ones_own_comes_before_our_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke.py").write_text("def get_config():\n    return 1\n")
    assert config_file.read_config_file("smoke.py") == 1
    assert config_file.read_config_file("smoke") != 1


def test_an_unknown_name_lists_ours():
    with pytest.raises(ConfigError, match=r"--config smok: no such file, and none of ours \(.*smoke.*vdiffsr_x4"):
        config_file.find_config_file("smok")


def test_notes_are_the_tags_own_section(release_notes):
    assert release_notes("v0.2.0", CHANGELOG, "0.2.0") == "- Second.\n"


@pytest.mark.parametrize(
    ("tag", "version", "message"),
    [
        ("v0.2.0", "0.1.0", "the package's version 0.1.0"),
        ("v0.1.0", "0.1.0", "unreleased: write its date"),
        ("v0.3.0", "0.3.0", "no section"),
    ],
)
def test_a_tag_without_a_finished_section_is_refused(release_notes, tag, version, message):
    with pytest.raises(ValueError, match=message):
        release_notes(tag, CHANGELOG, version)
