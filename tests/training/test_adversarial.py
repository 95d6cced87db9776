"""Both players' gradients, checked against differentiating their losses one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdiffsr_jax.training.adversarial import adaptive_weight, gan_gradients, hinge
from vdiffsr_jax.training.config import AutoencoderLoss

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
