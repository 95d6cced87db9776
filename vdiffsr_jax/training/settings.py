"""`--set key=value`: single settings in the place of a configuration file's."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from typing import Any

from vdiffsr_jax.config import ConfigError
from vdiffsr_jax.config_file import SWITCHES


def with_settings(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """`values` with each "dotted.key=value" of `settings` applied; ablation names (SWITCHES) are allowed.

    Values are Python literals, true/false/null in any case, otherwise text. prior=none takes the prior away, another
    value of `prior` is one of prior.train.
    Raises: ConfigError for a setting without "=" or a key below something that is not a mapping.
    """
    result: dict[str, Any] = copy.deepcopy(_plain(values))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write key=value")
        absent = key in ("prior", "model.prior") and text.lower() == "none"
        path = SWITCHES["prior.train"] if key == "prior" and not absent else SWITCHES.get(key, key)
        *parents, last = path.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {setting}: {parent} is not a group of settings")
        node[last] = None if absent else _literal(text)
    return result


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _plain(values: Any) -> Any:
    """Mappings of any kind (ConfigDict, dict) as dicts."""
    if isinstance(values, Mapping) or hasattr(values, "items"):
        return {key: _plain(value) for key, value in values.items()}
    return values
