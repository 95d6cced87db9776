"""stages/move_denoiser.py: a first stage that only mixes the latents costs a moved denoiser nothing."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

from stages import move_denoiser, plain_denoiser
from stages.move_denoiser import Seen, fitted_exit, moved, onto, unexplained
from vdiffsr_jax.config import SwinUNetConfig
from vdiffsr_jax.models.build import build
from vdiffsr_jax.models.swin_unet import SwinUNet
from vdiffsr_jax.weights import storage

CONFIG = SwinUNetConfig(
    image_size=8, in_channels=6, out_channels=3, model_channels=32, channel_mult=(1,), num_res_blocks=(1,),
    attention_resolutions=(), swin_depth=1, swin_embed_dim=32,
)  # fmt: skip
RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def test_the_exit_is_found_again():
    features, kernel = noise(4, 6, 6, 5), noise(3, 3, 5, 2)
    z_0 = np.asarray(
        jax.lax.conv_general_dilated(features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    )
    found, bias = fitted_exit(features, z_0 + 0.5)
    np.testing.assert_allclose(found, kernel, atol=1e-3)
    np.testing.assert_allclose(bias, 0.5, atol=1e-3)


def test_noise_keeps_its_strength_at_the_entrance():
    z_old = noise(4, 8, 8, 3)
    found = onto(z_old @ noise(3, 5) + 0.2, 7 * z_old)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, rtol=1e-5)


def test_mixed_latents_cost_nothing():
    network = build(SwinUNet, CONFIG)
    unet = jax.tree.map(lambda leaf: 0.2 * noise(*leaf.shape), network.abstract)
    mix = np.linalg.qr(noise(3, 3))[0]
    z_y, x, lr = noise(24, 8, 8, 3), noise(24, 8, 8, 3), noise(24, 8, 8, 3)
    z_0 = np.asarray(network.apply(unet, x, np.full(24, 3), lr))
    seen = Seen(z_0 @ mix, z_y @ mix, x @ mix, lr, window=lr)
    there, config = moved(unet, CONFIG, 3, seen, z_y)
    assert unexplained(there, config, 3, seen) < 1e-4


@pytest.mark.parametrize("stage", [move_denoiser, plain_denoiser])
def test_an_output_is_refused_before_the_work_as_saving_would(stage, tmp_path, monkeypatch, capsys):
    def begin(*args, **options):
        raise NotImplementedError

    monkeypatch.setattr(stage.checkpoint, "load_model", begin)
    flags = ["--model", "m", "--first_stage", "f", "--photos", "p", "--held_out", "h"]
    flags = ["stage", *(flags if stage is move_denoiser else []), "--output"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    monkeypatch.setattr(sys, "argv", [*flags, str(tmp_path / "empty")])
    with pytest.raises(NotImplementedError):
        stage.main()
    place = storage.place
    monkeypatch.setattr(storage, "place", lambda path: place(str(path).replace("gs://bucket", str(tmp_path))))
    for output in (tmp_path / "full", "gs://bucket/full"):
        monkeypatch.setattr(sys, "argv", [*flags, str(output)])
        with pytest.raises(SystemExit, match="2"):
            stage.main()
        assert f"--output {output} exists; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nowhere"], "nowhere: no such directory"),
        (["--model", "stages/first_stage"], "holds vqgan; not denoiser"),
        (["--model", "vdiffsr_jax/assets/box", "--tile_size", "0"], "--tile_size 0 must be at least 1"),
    ],
)
def test_refusals_are_one_line_before_the_work(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(move_denoiser, "encoder", lambda directory: pytest.fail("began to fit"))
    flags = [*flags, "--first_stage", "f", "--photos", "p", "--held_out", "h", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["stage", *flags])
    with pytest.raises(SystemExit, match="2"):
        move_denoiser.main()
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert len(told.splitlines()) == 1
