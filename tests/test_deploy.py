"""The recipes for clusters and for contributors name files, flags and configurations that exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from vdiffsr_jax.cli import train
from vdiffsr_jax.config_file import find_config_file, read_config_file

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def commands(text: str) -> list[str]:
    """Every train.py command line of a text, continued lines joined."""
    return re.findall(r"train\.py (--[^\n`&|']*)", text.replace("\\\n", " "))


def test_the_slurm_scripts_command_parses_and_names_a_configuration():
    found = commands((ROOT / "deploy/slurm.sh").read_text())
    assert found
    for line in found:
        words = re.findall(r'"[^"]*"|\S+', line)
        args = train.parser().parse_args([word.strip('"') for word in words])
        assert find_config_file(args.config).is_file()


def test_the_jobset_starts_what_the_image_holds():
    (document,) = yaml.safe_load_all((ROOT / "deploy/jobset.yaml").read_text())
    job = document["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [train.USAGE]}
    python, script, *flags = container["command"]
    assert (python, container["workingDir"]) == ("python", container["volumeMounts"][0]["mountPath"])
    image = (ROOT / "deploy/Dockerfile").read_text()
    assert script == "/app/train.py"
    assert "WORKDIR /app\nCOPY . ." in image
    args = train.parser().parse_args(flags)
    assert find_config_file(args.config).is_file()
    assert [port["containerPort"] for port in container["ports"]] == [args.metrics_port]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": container["ports"][0]["name"]}
    template = document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(args.metrics_port)
    extras = re.findall(r"EXTRAS=([\w,]+)", image)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for line in extras for extra in line.split(",")} <= known.keys()
    assert pod["volumes"][0]["name"] == container["volumeMounts"][0]["name"]


def test_the_slurm_script_is_a_shell_script():
    subprocess.run(["bash", "-n", "deploy/slurm.sh"], cwd=ROOT, check=True)


def test_hosted_ci_and_hooks_run_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert workflow["jobs"]["run"]["steps"][-1] == {"run": ".ci/run"}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    script = (ROOT / ".ci/run").read_text()
    assert all(hook["entry"].split(" --")[0] in script for hook in hooks)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["cff-version"] == "1.2.0"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_checkpoint_that_a_configuration_starts_from_is_made_by_a_documented_command(name: str):
    """One layout of folders: the book's commands, the configurations and the converter."""
    docs = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").glob("*.py")]
    made = set(re.findall(r"--output[= \\\n]+([\w./-]+)", "\n".join(path.read_text() for path in docs)))
    values = read_config_file(name)
    for run in [values] if "task" in values else values.values():
        for directory in run.get("init_from", {}).values():
            if directory.startswith("checkpoints/"):
                assert directory in made, f"{directory}: no documented command makes it"
            else:
                assert directory.startswith(("runs/", "stages/", "vdiffsr_jax/assets/", "{workdir}/"))
