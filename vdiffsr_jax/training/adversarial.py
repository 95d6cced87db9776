"""Games against a discriminator, both sides: VQGAN's, and what sharpens a student.

Source: Taming Transformers (arXiv:2012.09841), section 3.1; hinge losses as in its code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from vdiffsr_jax.training.config import AdversarialConfig, AutoencoderLoss
from vdiffsr_jax.training.optim import Flat

Discriminator = Callable[[Flat, jax.Array], jax.Array]


def hinge(real: jax.Array, fake: jax.Array) -> jax.Array:
    """The discriminator's loss, (mean max(0, 1 - D(x)) + mean max(0, 1 + D(x'))) / 2."""
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
    layers: Callable[[jax.Array], Sequence[jax.Array]],
    real: jax.Array,
    fake: jax.Array,
    key: jax.Array,
    weights: AdversarialConfig,
) -> jax.Array:
    """What the discriminator minimises on real and made pictures (b, h, w, 3), R1 and R2 included.

    Args: layers: pictures -> the discriminator's maps, the scores last.
    """
    fake = jax.lax.stop_gradient(fake)
    scores = jnp.split(layers(jnp.concatenate([real, fake]))[-1], 2)
    loss = {"hinge": hinge, "relativistic": relativistic}[weights.form](*scores)
    for weight, image, part in ((weights.r1, real, 0), (weights.r2, fake, 1)):
        if weight:
            at = jax.random.fold_in(key, part)
            loss = loss + weight * noise_penalty(lambda x: layers(x)[-1], image, at, weights.noise)
    return loss


def generator_loss(
    layers: Callable[[jax.Array], Sequence[jax.Array]], real: jax.Array, fake: jax.Array, weights: AdversarialConfig
) -> Flat:
    """{"gan": what the generator minimises against the scores, "matching": where its weight is not zero}."""
    made = layers(fake)
    if not weights.matching and weights.form == "hinge":
        return {"gan": -made[-1].mean()}
    true = layers(real)
    gan = -made[-1].mean() if weights.form == "hinge" else relativistic(made[-1], true[-1])
    return {"gan": gan} | ({"matching": feature_matching(true, made)} if weights.matching else {})


def adaptive_weight(match: jax.Array, gan: jax.Array) -> jax.Array:
    """|d match| / (|d gan| + 1e-4) at the decoder's last kernel, at most 1e4 (eq. 7)."""
    return jnp.clip(jnp.linalg.norm(match.ravel()) / (jnp.linalg.norm(gan.ravel()) + 1e-4), 0.0, 1e4)


def gan_gradients(
    autoencode: Callable[[Flat], tuple[tuple[jax.Array, jax.Array], Flat]],
    match: Callable[[jax.Array], tuple[jax.Array, Flat]],
    discriminate: Discriminator | None,
    params: Flat,
    discriminator: Flat,
    real: jax.Array,
    step: jax.Array,
    weights: AutoencoderLoss,
    last_kernel: str,
) -> tuple[Flat, Flat]:
    """Gradients of both players from one reconstruction; before `weights.gan_start` no discriminator runs.

    Args: autoencode: params -> ((image, codebook loss), metrics). match: image -> (its distance to `real`, parts).
        discriminate: (parameters, images) -> logits, or None to
            play no game. last_kernel: the parameter at which `adaptive_weight` compares.
    Returns: ({parameter: gradient} of params and discriminator, metrics with "loss", without the GAN's part).
    """
    (fake, codebook), vjp, usage = jax.vjp(autoencode, params, has_aux=True)
    (distance, parts), d_match = jax.value_and_grad(match, has_aux=True)(fake)
    d_codebook = jnp.asarray(weights.codebook, codebook.dtype)

    def play(discriminate: Discriminator) -> tuple[jax.Array, Flat, Flat]:
        gan, d_gan = jax.value_and_grad(lambda fake: -discriminate(discriminator, fake).mean())(fake)
        weight = jnp.asarray(weights.gan)
        if weights.gan_adaptive:
            nothing = jnp.zeros_like(codebook)
            # Only the last kernel's gradients are used, so the compiler drops the rest of both backward passes.
            at_last = [vjp((d_image, nothing))[0][last_kernel] for d_image in (d_match, d_gan)]
            weight = weight * adaptive_weight(*at_last)

        def judge(discriminator: Flat) -> jax.Array:
            return hinge(*jnp.split(discriminate(discriminator, jnp.concatenate([real, fake])), 2))

        loss, grads = jax.value_and_grad(judge)(discriminator)
        return d_match + weight * d_gan, grads, {"gan": gan, "gan_weight": weight, "discriminator": loss}

    def rest() -> tuple[jax.Array, Flat, Flat]:
        zero = jnp.zeros(())
        grads = {name: jnp.zeros_like(p) for name, p in discriminator.items()}
        return d_match, grads, {"gan": zero, "gan_weight": zero, "discriminator": zero}

    d_image, grads, gan_metrics = d_match, {}, {}
    if discriminate is not None:
        started = step >= weights.gan_start
        d_image, grads, gan_metrics = jax.lax.cond(started, lambda: play(discriminate), rest)
    grads = vjp((d_image, d_codebook))[0] | grads
    loss = distance + weights.codebook * codebook
    return grads, parts | usage | gan_metrics | {"loss": loss, "codebook": codebook}
