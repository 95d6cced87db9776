"""MUSIQ and CLIPIQA as metrics: the marks of converted weights, under the name of what they were trained on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from tests.conversion.in_memory import convert
from tests.golden.quality.recipe import MUSIQ_SIZES, SIZES, picture
from tests.models.test_quality import IO, clip_names, clip_state, musiq_names, musiq_state
from vdiffsr_jax.metrics import catalog
from vdiffsr_jax.metrics.rules import RULES
from vdiffsr_jax.models import kinds
from vdiffsr_jax.models.build import flatten, unflatten
from vdiffsr_jax.weights import checkpoint


def saved(path, kind, config, table, state):
    abstract = kinds.network(kind, kind, config).abstract
    params = unflatten(convert(table, state, state.get, flatten(abstract), kind), abstract)
    checkpoint.save_model(path, {kind: params}, kind=kind, config=config, sources=[{"file": "f", "sha256": "0"}])
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("opinions")
    state = clip_state()
    saved(folder / "clip", "clip_iqa", clip_names.infer_config({k: v.shape for k, v in state.items()}),
          clip_names.TABLE, state)  # fmt: skip
    config = kinds.MUSIQConfig(trained_on="spaq", **MUSIQ_SIZES)
    saved(folder / "musiq", "musiq", config, musiq_names.TABLE, musiq_state(1))
    return folder


def test_marks_are_found_named_and_computed(weights):
    found = catalog.find(weights)
    assert found == {"clip_iqa": weights / "clip", "musiq_spaq": weights / "musiq"}
    for key, column, want in (("clip_iqa", "CLIPIQA", "clip_iqa"), ("musiq_spaq", "MUSIQ (SPAQ)", "musiq")):
        measure = catalog.load(key, RULES["stablesr"], found[key])
        assert (measure.metric.column, measure.metric.rising, measure.weights) == (column, True, "f (SHA-256 0)")
        mark = measure.score(picture(*SIZES[0]), np.zeros((1, 1, 3), np.uint8))
        assert mark == pytest.approx(IO[want][0], abs=1e-5)


def test_what_is_no_metric_is_passed_over_and_a_damaged_metric_refused(weights, tmp_path):
    for name in ("clip", "musiq"):
        shutil.copytree(weights / name, tmp_path / name)
    for n, text in enumerate(
        ('{"model_type": "bert"}', "// of another program", "[1]", '{"format": 9, "kind": "vqgan"}')
    ):
        (tmp_path / f"foreign{n}").mkdir()
        (tmp_path / f"foreign{n}" / "config.json").write_text(text)
    assert catalog.find(tmp_path) == {"clip_iqa": tmp_path / "clip", "musiq_spaq": tmp_path / "musiq"}
    for name, text in (("clip", '{"form'), ("musiq", '{"format": 9, "kind": "musiq"}')):
        before = (tmp_path / name / "config.json").read_text()
        (tmp_path / name / "config.json").write_text(text)
        with pytest.raises(checkpoint.CheckpointError, match=name):
            catalog.find(tmp_path)
        (tmp_path / name / "config.json").write_text(before)


def test_every_musiq_has_a_name_and_a_way_to_get_it(weights):
    for data in ("koniq", "spaq", "ava", "paq2piq"):
        metric = catalog.known(catalog._key("musiq", kinds.MUSIQConfig(trained_on=data)))
        assert f"musiq_{data}_ckpt-" in metric.get
        assert (metric.column == "MUSIQ") == (data == "koniq")
