"""The published networks in PyTorch, on one tile, to compare a CPU's time with `benchmarks.inference`.

The same layers and sizes with random weights; only their time is of use. Left out: CoGU, CSPA, the shift masks, the
1x1 convolutions around the codebook and the tokenizer's quantiser, a few per cent together.

    pip install torch==2.13.0                (development only: the product never imports it)
    python -m benchmarks.pytorch             ms of every stage, the least of --repeats runs

Written as PyTorch users write them: NCHW, `scaled_dot_product_attention`, no compilation.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from vdiffsr_jax.config import SwinUNetConfig, VARConfig, VARTokenizerConfig, VDiffSRConfig, VQGANConfig
from vdiffsr_jax.config.ranges import Count, number


def conv(c: int, o: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    """Padded to keep the size (halve it, with a stride)."""
    return nn.Conv2d(c, o, side, stride, side // 2)


def norm(c: int) -> nn.GroupNorm:
    """Of 32 groups."""
    return nn.GroupNorm(32, c)


def heads(x: Tensor, dim: int) -> Tensor:
    """(b, n, c) -> (b, heads, n, dim)."""
    return x.unflatten(-1, (-1, dim)).transpose(1, 2)


def attend(qkv: Tensor, dim: int, mask: Tensor | None = None, *, normalize: bool = False) -> Tensor:
    """Self-attention of (b, n, 3 c); `normalize`: of queries and keys of length one."""
    q, k, v = (heads(x, dim) for x in qkv.chunk(3, -1))
    if normalize:
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class ResBlock(nn.Module):
    """norm, SiLU, 3x3 convolution, twice, around a skip; with `emb` a scale and a shift after the second norm."""

    def __init__(self, c: int, o: int, emb: int = 0):
        super().__init__()
        self.first = nn.Sequential(norm(c), nn.SiLU(), conv(c, o))
        self.emb = nn.Linear(emb, 2 * o) if emb else None
        self.norm = norm(o)
        self.second = nn.Sequential(nn.SiLU(), conv(o, o))
        self.skip = conv(c, o, 1) if c != o else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.norm(self.first(x))
        if self.emb is not None:
            scale, shift = self.emb(functional.silu(emb))[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.second(h)


class Attention(nn.Module):
    """Over all positions of a map, one head."""

    def __init__(self, c: int):
        super().__init__()
        self.norm, self.qkv, self.out = norm(c), conv(c, 3 * c, 1), conv(c, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = attend(self.qkv(self.norm(x)).flatten(2).transpose(1, 2), x.shape[1])
        return x + self.out(y.transpose(1, 2).unflatten(2, x.shape[2:]))


class Upsample(nn.Module):
    """Nearest x2 and a convolution."""

    def __init__(self, c: int):
        super().__init__()
        self.conv = conv(c, c)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


def middle(c: int) -> list[nn.Module]:
    """ResBlock, attention, ResBlock."""
    return [ResBlock(c, c), Attention(c), ResBlock(c, c)]


def encoder(cfg: VQGANConfig | VARTokenizerConfig, *, attention: bool) -> nn.Module:
    """`attention`: after every block of the deepest level too."""
    layers: list[nn.Module] = [conv(3, cfg.ch)]
    c = cfg.ch
    for level, mult in enumerate(cfg.ch_mult):
        deepest = level + 1 == len(cfg.ch_mult)
        for _ in range(cfg.num_res_blocks):
            layers += [ResBlock(c, cfg.ch * mult), *([Attention(cfg.ch * mult)] if attention and deepest else [])]
            c = cfg.ch * mult
        layers += [] if deepest else [conv(c, c, stride=2)]
    return nn.Sequential(*layers, *middle(c), norm(c), nn.SiLU(), conv(c, cfg.z_channels))


def decoder(cfg: VQGANConfig) -> nn.Module:
    """The first stage's."""
    c = cfg.ch * cfg.ch_mult[-1]
    layers = [conv(cfg.z_channels, c), *middle(c)]
    for level, mult in reversed(list(enumerate(cfg.ch_mult))):
        for _ in range(cfg.num_res_blocks + 1):
            layers.append(ResBlock(c, cfg.ch * mult))
            c = cfg.ch * mult
        layers += [Upsample(c)] if level else []
    return nn.Sequential(*layers, norm(c), nn.SiLU(), conv(c, 3))


class SwinBlock(nn.Module):
    """Attention in windows, then two linear maps, on a map (b, c, h, w)."""

    def __init__(self, c: int, cfg: SwinUNetConfig, shift: int):
        super().__init__()
        self.window, self.shift, self.dim = cfg.window_size, shift, cfg.num_head_channels
        self.norms = nn.ModuleList([norm(c), norm(c)])
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.bias = nn.Parameter(torch.zeros(c // self.dim, self.window**2, self.window**2))
        hidden = int(c * cfg.mlp_ratio)
        self.mlp = nn.Sequential(conv(c, hidden, 1), nn.GELU(), conv(hidden, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        s = self.window
        y = torch.roll(self.norms[0](x), (-self.shift, -self.shift), (2, 3))
        y = y.view(b, c, h // s, s, w // s, s).permute(0, 2, 4, 3, 5, 1).reshape(-1, s * s, c)
        y = self.out(attend(self.qkv(y), self.dim, self.bias))
        y = y.view(b, h // s, w // s, s, s, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)
        x = x + torch.roll(y, (self.shift, self.shift), (2, 3))
        return x + self.mlp(self.norms[1](x))


def swin_layer(c: int, size: int, cfg: SwinUNetConfig) -> nn.Module:
    """1x1 convolution, Swin blocks, 1x1 convolution."""
    width, shift = cfg.swin_embed_dim, cfg.window_size // 2 if size > cfg.window_size else 0
    blocks = [SwinBlock(width, cfg, i % 2 * shift) for i in range(cfg.swin_depth)]
    return nn.Sequential(conv(c, width, 1), *blocks, conv(width, c, 1))


class SwinUNet(nn.Module):
    """ResShift's denoiser."""

    def __init__(self, cfg: SwinUNetConfig):
        super().__init__()
        c, emb = cfg.model_channels, 4 * cfg.model_channels
        self.emb = nn.Sequential(nn.Linear(c, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.first = conv(cfg.in_channels, c)
        skips, down, up = [c], [], []
        levels = [(c * mult, cfg.image_size >> i, cfg.num_res_blocks[i]) for i, mult in enumerate(cfg.channel_mult)]
        for level, (width, size, count) in enumerate(levels):
            if level:
                down.append(nn.ModuleList([conv(c, c, stride=2)]))
                skips.append(c)
            for i in range(count):
                down.append(nn.ModuleList([ResBlock(c, width, emb), *([] if i else [swin_layer(width, size, cfg)])]))
                c = width
                skips.append(c)
        self.middle = nn.ModuleList([ResBlock(c, c, emb), swin_layer(c, levels[-1][1], cfg), ResBlock(c, c, emb)])
        for level, (width, size, count) in reversed(list(enumerate(levels))):
            for i in range(count + 1):
                parts = [ResBlock(c + skips.pop(), width, emb), *([] if i else [swin_layer(width, size, cfg)])]
                up.append(nn.ModuleList([*parts, *([Upsample(width)] if level and i == count else [])]))
                c = width
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.last = nn.Sequential(norm(c), nn.SiLU(), conv(c, cfg.out_channels))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        emb = self.emb(t)

        def run(stage: nn.ModuleList, h: Tensor) -> Tensor:
            for part in stage:
                h = part(h, emb) if isinstance(part, ResBlock) else part(h)
            return h

        skips = [self.first(x)]
        for stage in self.down:
            skips.append(run(stage, skips[-1]))
        h = run(self.middle, skips[-1])
        for stage in self.up:
            h = run(stage, torch.cat([h, skips.pop()], 1))
        return self.last(h)


class VARBlock(nn.Module):
    """Attention under a mask and two linear maps, each behind AdaLN (six vectors of the class)."""

    def __init__(self, cfg: VARConfig):
        super().__init__()
        c, hidden = cfg.width, int(cfg.width * cfg.mlp_ratio)
        self.dim = c // cfg.num_heads
        self.ada = nn.Linear(c, 6 * c)
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.mlp = nn.Sequential(nn.Linear(c, hidden), nn.GELU("tanh"), nn.Linear(hidden, c))

    def forward(self, x: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        gain1, gain2, scale1, scale2, shift1, shift2 = self.ada(functional.silu(label)).chunk(6, -1)
        normal = functional.layer_norm(x, x.shape[-1:])
        y = attend(self.qkv(normal * (1 + scale1) + shift1), self.dim, mask, normalize=True)
        x = x + gain1 * self.out(y)
        return x + gain2 * self.mlp(functional.layer_norm(x, x.shape[-1:]) * (1 + scale2) + shift2)


class VAR(nn.Module):
    """Its blocks over the tokens of all levels, each level seeing itself and the coarser ones."""

    def __init__(self, cfg: VARConfig):
        super().__init__()
        self.blocks = nn.ModuleList([VARBlock(cfg) for _ in range(cfg.depth)])
        level = torch.cat([torch.full((p * p,), i) for i, p in enumerate(cfg.patch_nums)])
        self.register_buffer("mask", level[:, None] >= level[None])

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, label, self.mask)
        return x


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Of the fastest run; the first is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[1:]) * 1000


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=number(Count), default=3)
    args = parser.parse_args()
    cfg = VDiffSRConfig()
    assert cfg.prior is not None, "the published model has a prior"
    tile, var = cfg.tile_size, cfg.prior.var
    image, latent = torch.randn(1, 3, 4 * tile, 4 * tile), torch.randn(1, cfg.first_stage.z_channels, tile, tile)
    codes = (
        torch.randn(tile**2, cfg.first_stage.embed_dim),
        torch.randn(cfg.first_stage.n_embed, cfg.first_stage.embed_dim),
    )
    stages: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "VQ encode": (encoder(cfg.first_stage, attention=False), (image,)),
        "tokenizer": (encoder(cfg.prior.tokenizer, attention=True), (image,)),
        f"VAR, {var.num_tokens} tokens": (
            VAR(var),
            (torch.randn(1, var.num_tokens, var.width), torch.randn(1, 1, var.width)),
        ),
        "UNet, one step": (
            SwinUNet(cfg.denoiser),
            (torch.randn(1, cfg.denoiser.in_channels, tile, tile), torch.randn(1, cfg.denoiser.model_channels)),
        ),
        "VQ decode": (decoder(cfg.first_stage), (latent,)),
    }
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, batch 1, tile {tile} -> {4 * tile}")
    print(f"{'stage':<20}{'ms':>9}{'M parameters':>14}")
    total = 0.0
    with torch.inference_mode():
        for name, (network, inputs) in stages.items():
            ms = milliseconds(functools.partial(network.eval(), *inputs), args.repeats)
            parameters = sum(p.numel() for p in network.parameters()) / 1e6
            print(f"{name:<20}{ms:>9.1f}{parameters:>14.1f}", flush=True)
            total += ms
        nearest = milliseconds(lambda: torch.cdist(*codes).argmin(1), args.repeats)
    print(f"{'nearest codes':<20}{nearest:>9.1f}\n{'sum':<20}{total + nearest:>9.1f}")


if __name__ == "__main__":
    main()
