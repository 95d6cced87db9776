"""Any checkpoint as a folder for the hub: .safetensors in torch layout, config.json, a model card."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from vdiffsr_jax import __version__
from vdiffsr_jax.config import ConfigError, to_dict
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten
from vdiffsr_jax.weights import checkpoint, hub_folder, safetensors_file, whole
from vdiffsr_jax.weights.description import FORMAT
from vdiffsr_jax.weights.versions import CONFIG_FILE


@dataclasses.dataclass(frozen=True)
class Card:
    """What only its maker knows of a model. `scores`: the table.md of an evaluation, with its protocol."""

    name: str
    licence: str
    data: str = ""
    commands: tuple[str, ...] = ()
    scores: Path | None = None


def pack(directory: str | os.PathLike[str], output: Path, card: Card) -> list[Path]:
    """Write the folder, one array at a time; returns its files.

    Raises: CheckpointError if there is no checkpoint; ConfigError if `output` holds something, or there is no table;
        OSError. Then nothing is left.
    """
    kind, config, sources = checkpoint.read_config(directory)
    scores = _scores(card)
    sizes: dict[str, int] = {}
    with whole.new_folder(output) as folder:
        for item in kinds.item_names(kind, config):
            flat = flatten(checkpoint.load_lazily(directory, item))
            sizes[item] = sum(array.size for array in flat.values())
            names = hub_folder.torch_names(flat)
            tensors = {name: hub_folder.in_torch_layout(path, flat[path]) for name, path in names.items()}
            safetensors_file.write(folder / f"{item}{hub_folder.SUFFIX}", tensors)
        (folder / "README.md").write_text(_card(card, kind, sizes, sources, scores), encoding="utf-8")
        content = {"format": FORMAT, "kind": kind, "config": to_dict(config), "sources": sources}
        (folder / CONFIG_FILE).write_text(json.dumps(content, indent=2) + "\n")
    return sorted(output.iterdir())


def _scores(card: Card) -> str:
    if card.scores is None:
        return "None were given."
    if not card.scores.is_file():
        raise ConfigError(f"--scores {card.scores}: no such file; evaluate.py writes OUTPUT/table.md")
    try:
        return card.scores.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"--scores {card.scores} is no text in UTF-8; evaluate.py writes OUTPUT/table.md") from None


_CARD = Path(__file__).with_name("card.md")
_PART = "One network by itself: a part to train with or to assemble."
_USE = """\
```bash
pip install "vdiffsr-jax[hub]"
vdiffsr-sample -i photos -o results --ckpt ORG/{name}
```

```python
import vdiffsr_jax

upscale = vdiffsr_jax.load("ORG/{name}")
```"""


def _card(card: Card, kind: str, sizes: dict[str, int], sources: list[dict[str, object]], scores: str) -> str:
    missing = "Its maker did not say."
    return _CARD.read_text().format(
        card=card,
        version=__version__,
        kind=kind,
        parameters=", ".join(f"{item} {size / 1e6:.1f} M" for item, size in sizes.items()),
        use=_USE.format(name=card.name) if kind == "vdiffsr" else _PART,
        data=card.data or missing,
        made_by="\n".join(["```bash", *card.commands, "```"]) if card.commands else missing,
        sources="\n".join(f"- from {json.dumps(source)}" for source in sources),
        scores=scores,
    )
