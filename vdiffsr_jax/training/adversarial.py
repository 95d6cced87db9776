"""A game against a discriminator, both sides: what sharpens a student's pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from vdiffsr_jax.config import check_choice
from vdiffsr_jax.config.ranges import Count, Positive, Weight, Whole
from vdiffsr_jax.training.optim import Metrics

Layers = Callable[[jax.Array], Sequence[jax.Array]]  # pictures -> the discriminator's maps, the scores last


@dataclasses.dataclass(frozen=True)
class AdversarialConfig:
    """A discriminator on the student's decoded pictures, from step `start` on; `weight` 0 has none.

    `form`: hinge or relativistic. `on`: patches of pixels (`layers` strided convolutions of `channels` and more), or
    the frozen maps of vgg16 (init_from.perceptual) or of the first stage's encoder. `r1`, `r2`: weights of the noise
    penalties on real and made pictures, `noise` their standard deviation. `matching`: weight of the distance of the
    discriminator's own maps.
    """

    weight: Weight = 0.0
    form: str = "hinge"
    on: str = "pixels"
    start: Whole = 0
    r1: Weight = 0.0
    r2: Weight = 0.0
    noise: Positive = 0.05
    matching: Weight = 0.0
    channels: Count = 64
    layers: Count = 3

    def __post_init__(self) -> None:
        check_choice(self, "form", ("hinge", "relativistic"))
        check_choice(self, "on", ("pixels", "vgg16", "encoder"))


def hinge(real: jax.Array, fake: jax.Array) -> jax.Array:
    """The discriminator's loss, (mean max(0, 1 - D(x)) + mean max(0, 1 + D(x'))) / 2.

    Source: Taming Transformers (arXiv:2012.09841), its code.
    """
    return 0.5 * (jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean())


def relativistic(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Mean softplus(D(x') - D(x)), the discriminator's loss; the generator's is the same with both exchanged.

    Source: The relativistic discriminator (arXiv:1807.00734), its paired form as in arXiv:2501.05441, eq. 2.
    """
    return jax.nn.softplus(fake - real).mean()


def noise_penalty(score: Callable[[jax.Array], jax.Array], image: jax.Array, key: jax.Array, std: float) -> jax.Array:
    """Mean (D(x) - D(x + std noise))^2: R1 on real and R2 on made pictures without a second derivative.

    Source: Seaweed-APT (arXiv:2501.08316), eq. 4.
    """
    moved = image + std * jax.random.normal(key, image.shape, image.dtype)
    return jnp.square(score(image) - score(moved)).mean()


def feature_matching(real: Sequence[jax.Array], fake: Sequence[jax.Array]) -> jax.Array:
    """Mean |D_l(x) - D_l(x')| over the layers but the scores; no gradient to the real side.

    Source: pix2pixHD (arXiv:1711.11585), eq. 4.
    """
    gaps = [jnp.abs(jax.lax.stop_gradient(x) - y).mean() for x, y in zip(real[:-1], fake[:-1], strict=True)]
    return jnp.stack(gaps).mean()


def discriminator_loss(
    layers: Layers, real: jax.Array, fake: jax.Array, key: jax.Array, weights: AdversarialConfig
) -> jax.Array:
    """What the discriminator minimises on real and made pictures (b, h, w, 3), R1 and R2 included."""
    fake = jax.lax.stop_gradient(fake)
    scores = jnp.split(layers(jnp.concatenate([real, fake]))[-1], 2)
    loss = {"hinge": hinge, "relativistic": relativistic}[weights.form](*scores)
    for weight, image, part in ((weights.r1, real, 0), (weights.r2, fake, 1)):
        if weight:
            at = jax.random.fold_in(key, part)
            loss = loss + weight * noise_penalty(lambda x: layers(x)[-1], image, at, weights.noise)
    return loss


def generator_loss(layers: Layers, real: jax.Array, fake: jax.Array, weights: AdversarialConfig) -> Metrics:
    """{"gan": what the generator minimises against the scores, "matching": where its weight is not zero}."""
    made = layers(fake)
    if not weights.matching and weights.form == "hinge":
        return {"gan": -made[-1].mean()}
    true = layers(real)
    gan = -made[-1].mean() if weights.form == "hinge" else relativistic(made[-1], true[-1])
    return {"gan": gan} | ({"matching": feature_matching(true, made)} if weights.matching else {})
