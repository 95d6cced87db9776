"""The book and README: every command on a page is one that its program takes, with a configuration that reads it."""

from __future__ import annotations

import argparse
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdiffsr_jax.config_file import read_config_file
from vdiffsr_jax.training import chain
from vdiffsr_jax.training.config import parse_train
from vdiffsr_jax.training.settings import with_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a page calls a program -> where its flags are.
PARSERS = {
    "sample.py": "vdiffsr_jax.cli.sample",
    "train.py": "vdiffsr_jax.cli.train",
    "convert_torch_weights.py": "vdiffsr_jax.cli.convert",
    "evaluate.py": "vdiffsr_jax.evaluation.command",
    "vdiffsr-sample": "vdiffsr_jax.cli.sample",
    "vdiffsr-train": "vdiffsr_jax.cli.train",
    "vdiffsr-web": "vdiffsr_jax.cli.web",
    "vdiffsr-model": "vdiffsr_jax.cli.model",
    "vdiffsr_jax.distribution": "vdiffsr_jax.cli.model",
    "vdiffsr_jax.training.plan": "vdiffsr_jax.planning.plan",
    "vdiffsr_jax.evaluation.ablation": "vdiffsr_jax.evaluation.ablation",
}
CALL = re.compile(
    r"(?:python (?=\S+\.py)|python -m (?=vdiffsr_jax)|\b(?=vdiffsr-\w+ ))(?:~/vdiffsr/)?([\w./-]+)([^\n|;`]*)"
)


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(program, words behind it) of every call of ours in the page's shell blocks."""
    for block in re.findall(r"^ *```(?:bash|sh)\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE):
        text = block.replace("\\\n", " ").replace("--command='", "\n")
        for name, value in re.findall(r'^(\w+)="(.*)"$', text, re.MULTILINE):
            text = text.replace(f"${name}", value)
        for line in text.splitlines():
            line = line[:-1] if line.count("'") % 2 else line  # the end of a --command='
            for program, rest in CALL.findall(line):
                yield program, shlex.split(rest.split(" && ")[0], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_taken_by_its_program(page: Path, capsys: pytest.CaptureFixture[str]):
    for program, words in commands(page):
        if program not in PARSERS:
            file = program if program.endswith(".py") else f"{program.replace('.', '/')}.py"
            assert (ROOT / file).is_file(), f"{page.name}: {program} does not exist"
            continue
        parser = pkgutil.resolve_name(f"{PARSERS[program]}:parser")()
        assert isinstance(parser, argparse.ArgumentParser)
        if program == "vdiffsr_jax.evaluation.ablation":
            words = words[: words.index("--")]
        if set(words) & {"-h", "--help"}:
            continue
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"{page.name}: {program} {shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "box.md"], ids=lambda page: page.name)
def test_every_training_command_names_a_configuration_that_takes_its_settings(page: Path):
    """box.md is left out: its first edition's configurations are in the repository's history."""
    parser = pkgutil.resolve_name(f"{PARSERS['train.py']}:parser")()
    for program, words in commands(page):
        if PARSERS.get(program) == PARSERS["train.py"] and "--config" in words:
            args = parser.parse_args(words)
            settings = [
                setting for setting in args.settings if ":" not in setting.split("/")[0]
            ]  # a reader's own class
            for run in chain.runs(read_config_file(args.config), "runs/any").values():
                parse_train(with_settings(run, settings))


def test_the_pages_have_commands_of_every_program():
    found = [program for page in PAGES for program, _ in commands(page)]
    assert {"sample.py", "train.py", "convert_torch_weights.py", "evaluate.py", "vdiffsr-web"} <= set(found)
    assert len(found) > 40
