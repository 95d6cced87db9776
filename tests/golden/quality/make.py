"""Reference numbers of MUSIQ and CLIPIQA, computed by torch (development only; writes io.npz and script.pt here).

    python tests/golden/quality/make.py

needs torch and clip-anytorch 2.6.0 (the text tower, the image tower and the tokenizer are its own). MUSIQ is written
out below as pyiqa computes it, with every sequence filled up and masked.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.golden.quality.recipe import CLIP_SIZES, MUSIQ_SIZES, SIZES, picture, weight

F = nn.functional
HERE = Path(__file__).parent
PROMPTS = ["Good image", "bad image", "Sharp image", "blurry image", "sharp edges", "blurry edges",
           "High resolution image", "low resolution image", "Noise-free image", "noisy image"]  # fmt: skip


def tensor(name: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.asarray(weight(name, shape)))


def standardized(x: torch.Tensor, name: str, c: int, o: int, k: int, stride: int = 1) -> torch.Tensor:
    w = tensor(name, o, c, k, k)
    w = w - w.mean((1, 2, 3), keepdim=True)
    w = w / (w.std((1, 2, 3), keepdim=True) + 1e-5)
    n = x.shape[-1]
    total = max((math.ceil(n / stride) - 1) * stride + k - n, 0)
    pad = (total // 2, total - total // 2)
    return F.conv2d(F.pad(x, pad + pad), w, stride=stride)


def group_norm(x: torch.Tensor, name: str, eps: float = 1e-4) -> torch.Tensor:
    c = x.shape[1]
    return F.group_norm(x, 32, tensor(f"{name}.weight", c), tensor(f"{name}.bias", c), eps)


def linear(x: torch.Tensor, name: str, o: int) -> torch.Tensor:
    return F.linear(x, tensor(f"{name}.weight", o, x.shape[-1]), tensor(f"{name}.bias", o))


def layer_norm(x: torch.Tensor, name: str) -> torch.Tensor:
    d = x.shape[-1]
    return F.layer_norm(x, (d,), tensor(f"{name}.weight", d), tensor(f"{name}.bias", d), 1e-6)


def sequence(x: torch.Tensor, scale: int, length: int | None) -> tuple[torch.Tensor, ...]:
    """Patches (n, 3, 32, 32), cells, scales and mask of one size, filled up to `length`."""
    h, w = x.shape[-2:]
    rows, columns = math.ceil(h / 32), math.ceil(w / 32)
    dy, dx = rows * 32 - h, columns * 32 - w
    x = F.unfold(F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2)), 32, stride=32)[0].T.reshape(-1, 3, 32, 32)
    grid = torch.arange(10.0)[None, None]
    down, right = (F.interpolate(grid, n, mode="nearest")[0, 0] for n in (rows, columns))
    cells = (down[:, None] * 10 + right[None]).reshape(-1).long()
    n = len(x)
    missing = 0 if length is None else length - n
    cells, scales, mask = (F.pad(v, (0, missing)) for v in (cells, torch.full((n,), scale), torch.ones(n)))
    return torch.cat([x, torch.zeros(missing, 3, 32, 32)]), cells, scales, mask


def musiq(image: np.ndarray, classes: int) -> float:
    x = (torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) * 2
    h, w = image.shape[:2]
    parts = []
    for scale, longer in enumerate((224, 384)):
        ratio = longer / max(h, w)
        resized = F.interpolate(x, (round(h * ratio), round(w * ratio)), mode="bicubic")
        parts.append(sequence(resized, scale, math.ceil(longer / 32) ** 2))
    parts.append(sequence(x, 2, None))
    x, cells, scales, mask = (torch.cat(part) for part in zip(*parts, strict=True))
    x = F.relu(group_norm(standardized(x, "conv_root.weight", 3, 64, 7, 2), "gn_root", 1e-6))
    x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)
    y = F.relu(group_norm(standardized(x, "block1.conv1.weight", 64, 64, 1), "block1.gn1"))
    y = F.relu(group_norm(standardized(y, "block1.conv2.weight", 64, 64, 3), "block1.gn2"))
    y = group_norm(standardized(y, "block1.conv3.weight", 64, 256, 1), "block1.gn3")
    x = F.relu(y + group_norm(standardized(x, "block1.conv_proj.weight", 64, 256, 1), "block1.gn_proj"))
    d, heads = MUSIQ_SIZES["width"], MUSIQ_SIZES["width"] // 64
    x = linear(x.permute(0, 2, 3, 1).reshape(len(x), -1), "embedding", d)
    t = "transformer_encoder."
    x = x + tensor(f"{t}posembed_input.position_emb", 1, 100, d)[0][cells]
    x = x + tensor(f"{t}scaleembed_input.scale_emb", 3, d)[scales]
    x = torch.cat([tensor(f"{t}cls", 1, 1, d)[0], x])
    mask = torch.cat([torch.ones(1), mask])
    for i in range(MUSIQ_SIZES["depth"]):
        b = f"{t}transformer.encoderblock_{i}."
        y = layer_norm(x, f"{b}norm1")
        q, k, v = (linear(y, f"{b}attention.{n}", d).reshape(-1, heads, 64).transpose(0, 1)
                   for n in ("query", "key", "value"))  # fmt: skip
        logits = (q @ k.transpose(1, 2) / 8).masked_fill((mask[:, None] * mask[None])[None] == 0, -1e3)
        y = (logits.softmax(-1) @ v).transpose(0, 1).reshape(-1, d)
        x = x + linear(y, f"{b}attention.out", d)
        y = F.gelu(linear(layer_norm(x, f"{b}norm2"), f"{b}mlp.fc1", MUSIQ_SIZES["mlp_width"]))
        x = x + linear(y, f"{b}mlp.fc2", d)
    q = linear(layer_norm(x, f"{t}encoder_norm")[:1], "head" if classes == 1 else "head.0", classes)
    return float(q[0, 0] if classes == 1 else (q.softmax(-1) * torch.arange(1.0, classes + 1)).sum())


def clip_iqa(image: np.ndarray, model: nn.Module, tokens: torch.Tensor) -> float:
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    x = (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    h, w = (n // 32 for n in ((s + 1) // 2 * 2 for s in image.shape[:2]))
    pool = model.visual.attnpool
    pool.positional_embedding = nn.Parameter(torch.zeros(h * w + 1, 32 * CLIP_SIZES["width"]))
    logits, _ = model(x, tokens)
    return float(logits.reshape(1, -1, 2).softmax(-1)[..., 0].mean())


class Small(nn.Module):
    """Half precision, a nested module, numbers that are no weights: what OpenAI's archive has."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False).half(), nn.BatchNorm2d(4))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.register_buffer("context_length", torch.tensor(77))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.visual(x) * self.scale


def main() -> None:
    from clip import model as clip_model
    from clip.simple_tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    tokens = torch.zeros(len(PROMPTS), 77, dtype=torch.long)
    for i, prompt in enumerate(PROMPTS):
        ids = [tokenizer.encoder["<|startoftext|>"], *tokenizer.encode(prompt), tokenizer.encoder["<|endoftext|>"]]
        tokens[i, : len(ids)] = torch.tensor(ids)
    s = CLIP_SIZES
    model = clip_model.CLIP(s["embed"], 224, s["blocks"], s["width"], None, 77, 49408, s["text_width"],
                            s["text_width"] // 64, s["text_depth"])  # fmt: skip
    state = {k: torch.from_numpy(np.asarray(weight(k, tuple(v.shape)))) for k, v in model.state_dict().items()
             if not k.endswith("num_batches_tracked")}  # fmt: skip
    model.load_state_dict(state, strict=False)
    model.eval()
    names = {k: list(v.shape) for k, v in model.state_dict().items()}
    with torch.no_grad():
        found = {
            "tokens": tokens.numpy()[:, :8].astype(np.int32),
            "names": np.array([f"{k} {' '.join(map(str, v))}".strip() for k, v in names.items()]),
            "text": model.encode_text(tokens).numpy(),
            "clip_iqa": np.array([clip_iqa(picture(*size), model, tokens) for size in SIZES]),
            "musiq": np.array([musiq(picture(*size), 1) for size in SIZES]),
            "musiq_ava": np.array([musiq(picture(*size), 10) for size in SIZES]),
        }
    torch.manual_seed(0)
    small = Small()
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(small), file)
    (HERE / "script.pt").write_bytes(file.getvalue())
    found |= {f"script/{k}": v.numpy() for k, v in small.state_dict().items()}
    np.savez_compressed(HERE / "io.npz", **found)
    print({k: v if v.size < 12 else v.shape for k, v in found.items()})


if __name__ == "__main__":
    main()
