"""What the flags of a job mean, and every way they can be wrong."""

from __future__ import annotations

import argparse

import jax
import pytest

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.runtime import processes as distributed


def flags(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    distributed.add_flags(parser)
    return parser.parse_args(arguments)


def forbidden(**settings: object) -> None:
    raise AssertionError("no runtime is needed")


def test_alone_without_flags(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", forbidden)
    assert distributed.join(flags(), pass_on_sigterm=True) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=a:1"], "missing --num_processes, --process_id"),
        (["--num_processes=2", "--process_id=0"], "missing --coordinator"),
        (["--coordinator=a:1", "--num_processes=2", "--process_id=2"], r"must lie in 0\.\.1"),
    ],
)
def test_flags_that_do_not_fit(monkeypatch, arguments, message):
    monkeypatch.setattr(jax.distributed, "initialize", forbidden)
    with pytest.raises(ConfigError, match=message):
        distributed.join(flags(*arguments), pass_on_sigterm=True)


@pytest.fixture
def preemption_service():
    before = jax.config.jax_enable_preemption_service
    yield
    jax.config.update("jax_enable_preemption_service", before)


@pytest.mark.parametrize("arguments", [["--distributed"], ["--coordinator=a:1", "--num_processes=2", "--process_id=1"]])
def test_flags_reach_the_runtime(monkeypatch, arguments, preemption_service):
    seen = {}
    monkeypatch.setattr(jax.distributed, "initialize", seen.update)
    distributed.join(flags(*arguments), pass_on_sigterm=False)
    assert seen["heartbeat_timeout_seconds"] == distributed.HEARTBEAT_SECONDS
    assert seen["process_id"] == (None if arguments == ["--distributed"] else 1)


def test_a_job_that_does_not_come_together_is_told_in_one_line(monkeypatch, preemption_service):
    def nobody(**settings: object) -> None:
        raise RuntimeError("deadline exceeded\nlong story")

    monkeypatch.setattr(jax.distributed, "initialize", nobody)
    with pytest.raises(ConfigError, match=r"--coordinator a:1: .* \(deadline exceeded\)$"):
        distributed.join(flags("--coordinator=a:1", "--num_processes=2", "--process_id=1"), pass_on_sigterm=True)
