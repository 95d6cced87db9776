"""Who chooses where compiled programs are kept: the flag, then jax's own settings, then the user's cache folder."""

from __future__ import annotations

import jax
import pytest

from tests.sampling.conftest import random_items, tiny_config
from vdiffsr_jax import Upscaler
from vdiffsr_jax.runtime import compile_cache


@pytest.fixture(autouse=True)
def untouched(monkeypatch, tmp_path):
    """As in a fresh process; nothing is compiled meanwhile, and what the tests set is taken back."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("VDIFFSR_CACHE", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", True)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def used() -> str | None:
    """Where programs are kept after an Upscaler was made."""
    config = tiny_config(prior=False, num_steps=4)
    Upscaler(config, random_items(config), devices=1)
    return jax.config.jax_compilation_cache_dir if jax.config.jax_enable_compilation_cache else None


def test_an_upscaler_alone_keeps_them_in_the_users_cache(tmp_path):
    assert used() == str(tmp_path / "xla")


def test_an_upscaler_takes_what_the_command_line_chose(tmp_path):
    compile_cache.use(str(tmp_path / "elsewhere"))
    assert used() == str(tmp_path / "elsewhere")
    compile_cache.use("off")
    assert used() is None


def test_what_the_program_set_stays(tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert used() == str(tmp_path / "own")
