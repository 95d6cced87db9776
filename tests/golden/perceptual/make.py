"""Reference numbers of the perceptual distances, computed by torch (development only; writes io.npz beside this file).

    python tests/golden/perceptual/make.py        with torch, and efficientnet_lite_pytorch for the third network

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


def unit(f: torch.Tensor) -> torch.Tensor:
    return f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10)


def main() -> None:
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 64, 64)).astype(np.float32))
    b = (a + torch.from_numpy(rng.normal(0, 0.2, (2, 3, 64, 64)).astype(np.float32))).clamp(-1, 1)
    io = {"a": a.numpy(), "b": b.numpy()}
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
