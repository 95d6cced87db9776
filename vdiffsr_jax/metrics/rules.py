"""Named rules of scoring: the same pictures score differently by how papers crop, round and shave."""

from __future__ import annotations

import dataclasses

import numpy as np

from vdiffsr_jax.metrics.psnr_ssim import luma, psnr, ssim


@dataclasses.dataclass(frozen=True)
class Rules:
    """`border`: pixels not counted on every side by PSNR, SSIM and NIQE. `round_psnr`, `round_ssim`: whether Y is.

    `clipped`: SSIM's contrast-structure term is not below 0. `crop`: of photos (--photos), HR pixels a side at most;
    None takes them whole. `origin`: whose tables are made so.
    """

    name: str
    origin: str
    border: int = 0
    round_psnr: bool = False
    round_ssim: bool = False
    clipped: bool = False
    crop: int | None = None

    def inside(self, image: np.ndarray) -> np.ndarray:
        """The picture without its border."""
        b = self.border
        return image[b : image.shape[0] - b, b : image.shape[1] - b]

    def psnr(self, image: np.ndarray, hr: np.ndarray) -> float:
        """PSNR-Y in dB of two pictures (h, w, 3) uint8."""
        a, b = (luma(self.inside(x), rounded=self.round_psnr) for x in (image, hr))
        return psnr(a, b)

    def ssim(self, image: np.ndarray, hr: np.ndarray) -> float:
        """SSIM-Y of two pictures (h, w, 3) uint8."""
        a, b = (luma(self.inside(x), rounded=self.round_ssim) for x in (image, hr))
        return ssim(a, b, clipped=self.clipped)

    def describe(self) -> str:
        """What was computed, in sentences."""
        rounded = {True: "rounded to whole numbers", False: "not rounded"}
        return (
            f"Scores `{self.name}` ({self.origin}): PSNR and SSIM on Y of YCbCr (BT.601, 16..235) of 8-bit pictures, "
            f"peak 255, {self.border} pixels cropped on every side; Y {rounded[self.round_psnr]} for PSNR and "
            f"{rounded[self.round_ssim]} for SSIM (11x11 Gaussian window of sigma 1.5, where it fits whole"
            f"{', contrast term not below 0' if self.clipped else ''}). NIQE on grey of full range, rounded, the same "
            "border; all other metrics on whole pictures, RGB. PSNR on this Y is 1.32 dB above that on Y of 0..255."
        )


RULES = {
    rules.name: rules
    for rules in (
        Rules("default", "ours", border=4, crop=512),
        Rules("stablesr", "StableSR, OSEDiff, PiSA-SR and others by pyiqa", round_ssim=True, clipped=True),
        Rules("resshift", "ResShift, full-size pictures, chopped into tiles", round_psnr=True, round_ssim=True),
        Rules("ntire", "NTIRE and BasicSR, full-size pictures", border=4),
    )
}
