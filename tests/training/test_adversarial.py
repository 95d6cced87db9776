"""Both players' gradients, checked against differentiating their losses one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.training.adversarial import (
    AdversarialConfig,
    discriminator_loss,
    generator_loss,
    hinge,
    relativistic,
)
from vdiffsr_jax.training.vqgan_game import AutoencoderLoss, adaptive_weight, gan_gradients

KEYS = jax.random.split(jax.random.key(0), 4)
PARAMS = {"ae/inner": jax.random.normal(KEYS[0], (3, 3)), "ae/last": jax.random.normal(KEYS[1], (3, 3))}
CRITIC = {"critic/w": jax.random.normal(KEYS[2], (3,))}
REAL = jax.random.normal(KEYS[3], (5, 3))


def autoencode(params):
    z = jnp.tanh(REAL @ params["ae/inner"])
    return (z @ params["ae/last"], jnp.square(z).mean()), {"codes_used": jnp.asarray(2.0)}


def match(image):
    l1 = jnp.abs(image - REAL).mean()
    return 2 * l1, {"l1": l1}


def discriminate(critic, image):
    return image @ critic["critic/w"]


def gradients(step: int, weights: AutoencoderLoss, play: bool = True):
    critic = discriminate if play else None
    return jax.jit(
        lambda step: gan_gradients(
            autoencode, match, critic, PARAMS, CRITIC if play else {}, REAL, step, weights, "ae/last"
        )
    )(step)


def test_hinge():
    assert float(hinge(jnp.array([2.0, 0.5]), jnp.array([-3.0, 1.0]))) == pytest.approx(0.5 * (0.25 + 1.0))


@pytest.mark.parametrize("adaptive", [True, False])
def test_gradients_are_those_of_the_two_losses(adaptive):
    weights = AutoencoderLoss(gan=0.7, gan_adaptive=adaptive, codebook=0.3)
    got, metrics = gradients(3, weights)

    def matched(params):
        return match(autoencode(params)[0][0])[0]

    def fooled(params):
        return -discriminate(CRITIC, autoencode(params)[0][0]).mean()

    weight = 0.7
    if adaptive:
        norms = [jnp.linalg.norm(jax.grad(part)(PARAMS)["ae/last"]) for part in (matched, fooled)]
        weight *= norms[0] / (norms[1] + 1e-4)

    def generator(params):
        return matched(params) + 0.3 * autoencode(params)[0][1] + weight * fooled(params)

    fake = autoencode(PARAMS)[0][0]

    def critic_loss(critic):
        return hinge(discriminate(critic, REAL), discriminate(critic, fake))

    want = jax.grad(generator)(PARAMS) | jax.grad(critic_loss)(CRITIC)
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["gan_weight"], weight, rtol=1e-5)
    np.testing.assert_allclose(metrics["discriminator"], critic_loss(CRITIC), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], matched(PARAMS) + 0.3 * metrics["codebook"], rtol=1e-5)


def test_before_its_start_the_game_is_not_played():
    got, metrics = gradients(4, AutoencoderLoss(gan_start=5))
    without, _ = gradients(4, AutoencoderLoss(gan_start=5), play=False)
    for name, gradient in without.items():
        np.testing.assert_allclose(got[name], gradient, rtol=1e-5)
    assert not np.asarray(got["critic/w"]).any()
    assert float(metrics["discriminator"]) == 0.0
    assert np.asarray(gradients(5, AutoencoderLoss(gan_start=5))[0]["critic/w"]).any()


def test_adaptive_weight_is_bounded():
    assert float(adaptive_weight(jnp.ones(4), jnp.zeros(4))) == pytest.approx(1e4)


def test_relativistic_compares_real_with_made():
    real, fake = jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])
    assert float(relativistic(real, fake)) == pytest.approx(np.mean(np.log1p(np.exp([-2.0, 1.0]))))


def layers(critic):
    """A discriminator whose one map is 2 x and whose scores are x w."""
    return lambda image: [2 * image, image @ critic["critic/w"]]


def test_the_discriminators_loss_has_its_penalties_and_leaves_the_pictures_alone():
    fake, key = REAL + 1, jax.random.key(5)

    def loss(critic, fake, **options):
        weights = AdversarialConfig(weight=1.0, noise=0.1, **options)
        return discriminator_loss(layers(critic), REAL, fake, key, weights)

    plain = loss(CRITIC, fake, form="relativistic")
    assert float(plain) == pytest.approx(float(relativistic(REAL @ CRITIC["critic/w"], fake @ CRITIC["critic/w"])))
    for part, name in ((0, "r1"), (1, "r2")):
        noise = 0.1 * jax.random.normal(jax.random.fold_in(key, part), REAL.shape)
        want = 3 * jnp.square(noise @ CRITIC["critic/w"]).mean()  # D is linear here: D(x) - D(x + n) = -D(n)
        got = loss(CRITIC, fake, form="relativistic", **{name: 3.0}) - plain
        np.testing.assert_allclose(got, want, rtol=1e-4)
    assert not np.any(jax.grad(lambda fake: loss(CRITIC, fake, r2=1.0))(fake))


def test_the_generators_loss_pulls_scores_and_maps_towards_the_real_ones():
    fake = REAL + 1
    parts = generator_loss(layers(CRITIC), REAL, fake, AdversarialConfig(weight=1.0, form="relativistic", matching=1.0))
    scores = [image @ CRITIC["critic/w"] for image in (REAL, fake)]
    assert float(parts["gan"]) == pytest.approx(float(relativistic(scores[1], scores[0])))
    assert float(parts["matching"]) == pytest.approx(2.0, rel=1e-5)
    alone = generator_loss(layers(CRITIC), REAL, fake, AdversarialConfig(weight=1.0))
    assert alone.keys() == {"gan"}
    assert float(alone["gan"]) == pytest.approx(-float(scores[1].mean()), rel=1e-5)
