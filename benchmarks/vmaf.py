"""VMAF of one picture by ffmpeg's libvmaf (development only: pip install imageio-ffmpeg; its binary is GPL-3)."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_SAME = "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]libvmaf=log_fmt=json:log_path="


class VMAF:
    """`score(image, hr)` of two (h, w, 3) uint8, by the model v0.6.1, in yuv420p. Raises: ImportError."""

    def __init__(self) -> None:
        import imageio_ffmpeg

        self._program = imageio_ffmpeg.get_ffmpeg_exe()

    def score(self, image: np.ndarray, hr: np.ndarray) -> float:
        """0 to 100. Raises: RuntimeError with ffmpeg's words."""
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("made.png", "hr.png", "log.json")]
            for file, picture in zip(files, (image, hr), strict=False):
                Image.fromarray(picture).save(file, compress_level=0)
            command = [self._program, "-loglevel", "error", "-i", files[0], "-i", files[1]]
            done = subprocess.run(
                [*command, "-lavfi", f"{_SAME}{files[2]}", "-f", "null", "-"], capture_output=True, text=True
            )
            if done.returncode or not files[2].is_file():
                raise RuntimeError(f"ffmpeg: {done.stderr.strip()}")
            return float(json.loads(files[2].read_text())["pooled_metrics"]["vmaf"]["mean"])
