"""Reference numbers of the perceptual distances, computed by torch (development only; writes io.npz beside this file).

    python tests/golden/perceptual/make.py        with torch, and efficientnet_lite_pytorch for the third network
    python tests/golden/perceptual/make.py dists  only the numbers of DISTS, into io.npz as it is

Weights are `fill` recipes, made non-negative where a variance or a head needs it (see `weight`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.golden.perceptual.recipe import weight

HERE = Path(__file__).parent


def loaded(module: nn.Module) -> nn.Module:
    state = {k: torch.from_numpy(weight(k, tuple(v.shape))) for k, v in module.state_dict().items() if v.dim()}
    module.load_state_dict(state, strict=False)
    return module.eval()


def vgg16() -> nn.Sequential:
    layers, c = [], 3
    for width in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512):
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU()]
            c = width
    return nn.Sequential(*layers)


def alexnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    )  # fmt: skip


def sequential_features(net: nn.Sequential, taps: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
    x, out = (x - shift) / scale, []
    for i, layer in enumerate(net.features):
        x = layer(x)
        if i in taps:
            out.append(x)
    return out


def efficientnet_features(net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x, out = net._swish(net._bn0(net._conv_stem(x))), []
    for i, block in enumerate(net._blocks):
        x = block(x)
        if i in (0, 2, 4, 10, 15):
            out.append(x)
    return out


def dists(net: nn.ModuleDict, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """DISTS_pytorch 0.1 with the pooling written out and the batch kept."""
    window = torch.from_numpy(np.outer(np.hanning(5)[1:-1], np.hanning(5)[1:-1]).astype(np.float32))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def features(x: torch.Tensor) -> list[torch.Tensor]:
        x = (x + 1) / 2
        out, x = [x], (x - mean) / std
        for i, layer in enumerate(net.features):
            if isinstance(layer, nn.MaxPool2d):
                kernel = (window / window.sum()).repeat(x.shape[1], 1, 1, 1)
                x = (nn.functional.conv2d(x**2, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
            else:
                x = layer(x)
            if i in (3, 8, 15, 22, 29):
                out.append(x)
        return out

    pairs = list(zip(features(a), features(b), strict=True))
    alpha, beta = (torch.from_numpy(weight(n, (1, 1475, 1, 1))) for n in ("alpha", "beta"))
    total, score, start = alpha.sum() + beta.sum(), torch.ones(len(a)), 0
    for x, y in pairs:
        w, v = (p[:, start : start + x.shape[1], 0, 0] / total for p in (alpha, beta))
        start += x.shape[1]
        mx, my = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
        lum = (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
        cov = (x * y).mean((2, 3)) - (mx * my)[..., 0, 0]
        s = (2 * cov + 1e-6) / (((x - mx) ** 2).mean((2, 3)) + ((y - my) ** 2).mean((2, 3)) + 1e-6)
        score = score - (w * lum[..., 0, 0]).sum(1) - (v * s).sum(1)
    return score


def unit(f: torch.Tensor) -> torch.Tensor:
    return f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)


def main() -> None:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32))
    b = (a + torch.from_numpy(rng.normal(0, 0.2, (2, 3, 64, 64)).astype(np.float32))).clamp(-1, 1)
    io = {"a": a.numpy(), "b": b.numpy()}
    with torch.no_grad():
        io["dists_distance"] = dists(loaded(nn.ModuleDict({"features": vgg16()})), a, b).numpy()
    if sys.argv[1:] == ["dists"]:
        np.savez_compressed(HERE / "io.npz", **(dict(np.load(HERE / "io.npz")) | io))
        return
    from efficientnet_lite_pytorch import EfficientNet

    nets = {
        "vgg16": (nn.ModuleDict({"features": vgg16()}), lambda n, x: sequential_features(n, (3, 8, 15, 22, 29), x)),
        "alexnet": (nn.ModuleDict({"features": alexnet()}), lambda n, x: sequential_features(n, (1, 4, 7, 9, 11), x)),
        "efficientnet_lite0": (EfficientNet.from_name("efficientnet-lite0"), efficientnet_features),
    }
    with torch.no_grad():
        for name, (net, features) in nets.items():
            loaded(net)
            fa, fb = features(net, a), features(net, b)
            parts = []
            for i, (p, q) in enumerate(zip(fa, fb, strict=True)):
                io[f"{name}_feature_{i}"] = p.mean(dim=(2, 3)).numpy()
                d = (unit(p) - unit(q)).pow(2)
                if name != "efficientnet_lite0":
                    head = torch.from_numpy(weight(f"lin{i}.model.1.weight", (1, p.shape[1], 1, 1)))
                    d = d * head
                parts.append(d.sum(1).mean(dim=(1, 2)))
            total = torch.stack(parts).sum(0)
            io[f"{name}_distance"] = (total / 5 if name == "efficientnet_lite0" else total).numpy()
    np.savez_compressed(HERE / "io.npz", **io)


if __name__ == "__main__":
    main()
