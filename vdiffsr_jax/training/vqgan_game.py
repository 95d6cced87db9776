"""VQGAN's game against a patch discriminator, both sides from one reconstruction.

Source: Taming Transformers (arXiv:2012.09841), section 3.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vdiffsr_jax.config.ranges import Count, Weight, Whole
from vdiffsr_jax.training.adversarial import hinge
from vdiffsr_jax.training.optim import Flat, Graded, Metrics

Discriminator = Callable[[Flat, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class AutoencoderLoss:
    """Weights of |x - x'|, perceptual distance, codebook loss and the patch GAN.

    |x - x'| is the mean over `l1_levels` sizes, each half of the one before: the small ones hold colour and no texture.
    `l1_colour` weighs the axes luma, orange to blue, green to magenta; photos vary ten times less along the last than
    along the first, and a small network gives it up unless it counts more.
    The GAN's factor is `gan`, times |grad of the rest| / |grad of the GAN| at the decoder's last kernel if
    `gan_adaptive` (VQGAN, arXiv:2012.09841, eq. 7), and zero before step `gan_start`.
    """

    l1: Weight = 1.0
    l1_levels: Count = 1
    l1_colour: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    perceptual: Weight = 1.0
    codebook: Weight = 1.0
    gan: Weight = 0.5
    gan_adaptive: bool = True
    gan_start: Whole = 0
    discriminator_channels: Count = 64
    discriminator_layers: Count = 3


def adaptive_weight(match: jax.Array, gan: jax.Array) -> jax.Array:
    """|d match| / (|d gan| + 1e-4) at the decoder's last kernel, at most 1e4 (eq. 7)."""
    return jnp.clip(jnp.linalg.norm(match.ravel()) / (jnp.linalg.norm(gan.ravel()) + 1e-4), 0.0, 1e4)


def gan_gradients(
    autoencode: Callable[[Flat], tuple[tuple[jax.Array, jax.Array], Metrics]],
    match: Callable[[jax.Array], tuple[jax.Array, Metrics]],
    discriminate: Discriminator | None,
    params: Flat,
    discriminator: Flat,
    real: jax.Array,
    step: jax.Array,
    weights: AutoencoderLoss,
    last_kernel: str,
) -> Graded:
    """Gradients of both players from one reconstruction; before `weights.gan_start` no discriminator runs.

    Args: autoencode: params -> ((image, codebook loss), metrics). match: image -> (its distance to `real`, parts).
        discriminate: (parameters, images) -> logits, or None to
            play no game. last_kernel: the parameter at which `adaptive_weight` compares.
    Returns: ({parameter: gradient} of params and discriminator, metrics with "loss", without the GAN's part).
    """
    (fake, codebook), vjp, usage = jax.vjp(autoencode, params, has_aux=True)
    (distance, parts), d_match = jax.value_and_grad(match, has_aux=True)(fake)
    d_codebook = jnp.asarray(weights.codebook, codebook.dtype)

    def play(discriminate: Discriminator) -> tuple[jax.Array, Flat, Metrics]:
        gan, d_gan = jax.value_and_grad(lambda fake: -discriminate(discriminator, fake).mean())(fake)
        weight = jnp.asarray(weights.gan)
        if weights.gan_adaptive:
            nothing = jnp.zeros_like(codebook)
            # Only the last kernel's gradients are used, so the compiler drops the rest of both backward passes.
            at_last = [vjp((d_image, nothing))[0][last_kernel] for d_image in (d_match, d_gan)]
            weight = weight * adaptive_weight(*at_last)

        def loss_of(discriminator: Flat) -> jax.Array:
            return hinge(*jnp.split(discriminate(discriminator, jnp.concatenate([real, fake])), 2))

        loss, grads = jax.value_and_grad(loss_of)(discriminator)
        return d_match + weight * d_gan, grads, {"gan": gan, "gan_weight": weight, "discriminator": loss}

    def rest() -> tuple[jax.Array, Flat, Metrics]:
        zero = jnp.zeros(())
        grads = {name: jnp.zeros_like(p) for name, p in discriminator.items()}
        return d_match, grads, {"gan": zero, "gan_weight": zero, "discriminator": zero}

    d_image, grads, gan_metrics = d_match, {}, {}
    if discriminate is not None:
        started = step >= weights.gan_start
        d_image, grads, gan_metrics = jax.lax.cond(started, lambda: play(discriminate), rest)
    grads = vjp((d_image, d_codebook))[0] | grads
    loss = distance + weights.codebook * codebook
    return grads, {**parts, **usage, **gan_metrics, "loss": loss, "codebook": codebook}
