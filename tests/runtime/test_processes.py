"""What the flags of a job mean, and every way they can be wrong."""

from __future__ import annotations

import argparse

import jax
import pytest
from jax._src.clusters.cluster import ClusterEnv

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


@pytest.mark.parametrize(
    ("environment", "local"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4"}, []),  # deploy/slurm.sh: a process a node, all its GPUs
        ({"SLURM_NTASKS": "32", "SLURM_STEP_NUM_NODES": "4"}, None),  # a process a GPU, which JAX tells apart
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NUM_NODES": "4", "JAX_LOCAL_DEVICE_IDS": "1,2"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "8"}, None),
        ({}, None),
    ],
)
def test_a_process_alone_on_its_host_has_all_of_its_gpus(monkeypatch, preemption_service, environment, local):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NUM_NODES", "OMPI_COMM_WORLD_LOCAL_SIZE", "JAX_LOCAL_DEVICE_IDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = {}
    monkeypatch.setattr(jax.distributed, "initialize", seen.update)
    distributed.join(flags("--distributed"), pass_on_sigterm=False)
    assert seen["local_device_ids"] == local


def test_jax_leaves_a_process_that_asks_for_all_gpus_all_of_them(monkeypatch):
    """What `local_device_ids=[]` relies on: no cluster's answer takes its place, and nothing is hidden."""
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "a,b", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "2"}
    for name, value in (slurm | {"SLURM_PROCID": "1", "SLURM_LOCALID": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("JAX_LOCAL_DEVICE_IDS", raising=False)
    for asked, left in (([], []), (None, [0])):
        found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, asked, "slurm", None)
        assert found[1:] == (2, 1, left)


def test_a_job_that_does_not_come_together_is_told_in_one_line(monkeypatch, preemption_service):
    def nobody(**settings: object) -> None:
        raise RuntimeError("deadline exceeded\nlong story")

    monkeypatch.setattr(jax.distributed, "initialize", nobody)
    with pytest.raises(ConfigError, match=r"--coordinator a:1: .* \(deadline exceeded\)$"):
        distributed.join(flags("--coordinator=a:1", "--num_processes=2", "--process_id=1"), pass_on_sigterm=True)
