import json
from pathlib import Path

import numpy as np
import pytest

from tests.conversion.in_memory import convert, invert
from tests.parity_kinds import weights
from vdiffsr_jax.config import SwinUNetConfig
from vdiffsr_jax.conversion.rules import ConversionError, match
from vdiffsr_jax.conversion.swin_unet import TABLE, infer_config
from vdiffsr_jax.models.build import build, flatten
from vdiffsr_jax.models.swin_unet import SwinUNet

GOLDEN = Path(__file__).parents[1] / "golden"
SMALL = SwinUNetConfig(
    image_size=8,
    model_channels=16,
    channel_mult=(4, 2, 2),
    num_res_blocks=(1, 1, 1),
    attention_resolutions=(8, 4),
    num_head_channels=16,
    swin_embed_dim=32,
    window_size=4,
    mlp_ratio=2.0,
)


def manifest(name):
    tensors = json.loads((GOLDEN / "published_manifests" / f"{name}.json").read_text())["tensors"]
    return {tensor: tuple(spec["shape"]) for tensor, spec in tensors.items()}


def shapes_of(cfg, **kept):
    """Shapes under PyTorch names of a network of ours, by the golden folder's names."""
    return {name: array.shape for name, array in weights.load(GOLDEN / "swin_unet").items()}


@pytest.mark.parametrize(
    "name", ["resshift_realsrx4_s15_v1", "resshift_realsrx4_s4_v3", "resshift_bicsrx4_s4", "sinsr_v1"]
)
def test_published_files_convert_strictly_and_tell_their_configuration(name):
    shapes = manifest(name)
    cfg = infer_config(shapes)
    assert cfg == SwinUNetConfig()
    want = flatten(build(SwinUNet, cfg).abstract)
    empty = {tensor: np.broadcast_to(np.float32(0), shape) for tensor, shape in shapes.items()}
    got = convert(TABLE, shapes, empty.__getitem__, want, name)
    assert got.keys() == want.keys()
    assert sum(int(np.prod(array.shape)) for array in got.values()) == 118_593_583
    dropped = match(TABLE, shapes)[0].dropped
    assert len(dropped) == 24
    assert all(tensor.endswith(("attn_mask", "relative_position_index")) for tensor in dropped)


def test_small_file_tells_its_configuration():
    assert infer_config(shapes_of(SMALL)) == SMALL


def test_image_size_follows_from_the_windows_where_nothing_shifts():
    shapes = {name: shape for name, shape in shapes_of(SMALL).items() if not name.endswith("attn_mask")}
    for name, shape in shapes.items():
        if name.endswith("bias_table") and shape[0] == 49 and name.split(".")[1] in ("1", "4"):
            shapes[name] = (15 * 15, shape[1])  # the finest level's window is the whole 8x8 map
    cfg = infer_config(shapes)
    assert (cfg.image_size, cfg.window_size, cfg.attention_resolutions) == (8, 8, (8, 4))


def test_overrides_win_and_replace_what_a_stripped_file_does_not_tell():
    shapes = {name: s for name, s in shapes_of(SMALL).items() if not name.endswith(("attn_mask", "position_index"))}
    with pytest.raises(ConversionError, match="do not tell image_size"):
        infer_config(shapes)
    assert infer_config(shapes, image_size=8) == SMALL
    assert infer_config(shapes, image_size=16).attention_resolutions == (16, 8)


def test_another_network_is_refused():
    with pytest.raises(ConversionError, match=r"time_embed\.0\.weight is missing"):
        infer_config({"encoder.conv_in.weight": (1, 1, 3, 3)})


def test_round_trip_returns_every_tensor():
    tensors = weights.load(GOLDEN / "swin_unet")
    want = flatten(build(SwinUNet, SMALL).abstract)
    back = invert(TABLE, tensors, convert(TABLE, tensors, tensors.__getitem__, want, "file"))
    assert tensors.keys() - back.keys() == match(TABLE, tensors)[0].dropped.keys()
    for name, array in back.items():
        np.testing.assert_array_equal(array, tensors[name])
