"""PEARL: a task variable z with a Gaussian posterior, to which every transition gives a factor."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import Misuse, check_real, require
from metadqn_jax.learners.base import MetaLearner, forget, td_loss
from metadqn_jax.memories.base import blank, features
from metadqn_jax.networks import perceptron
from metadqn_jax.td import Loss
from metadqn_jax.types import Array, Key, Params, QNetwork, Spec


class Inferring(NamedTuple):
    """The slow parameters."""

    network: Params
    encoder: Params


class Gaussian(NamedTuple):
    """A diagonal Gaussian, each field [latent]."""

    mean: Array
    log_variance: Array


class Natural(NamedTuple):
    """The natural parameters of a diagonal Gaussian, which add up where densities are multiplied, each [latent]."""

    shift: Array  # precision · mean
    precision: Array


class Inferred(NamedTuple):
    """The fast state: the posterior over z given all transitions so far, and one draw from it."""

    posterior: Natural
    z: Array


def pearl(network: QNetwork, spec: Spec, *, loss: Loss, hidden: Sequence[int] = (64, 64), kl: Any = 0.001) -> MetaLearner:
    """Infer a task variable z [latent] from a set of transitions (Rakelly et al. 2019, section 4, eqs. 1-2, algorithms 1-2).

    The posterior is the unit prior times a factor Ψ(z | transition) of each transition seen, whatever their order; `network`,
    whose context is [latent], acts on one draw of it a segment, the first on one of the prior. The loss is the mean over
    the segments of the TD loss, with z from all segments before and the target network bootstrapping with the same z,
    plus `kl` · KL(posterior ‖ prior). The critic's gradient trains the encoder through z.

    The context is lived by the present policy, as when it is tested, if the store holds no older lifetimes.
    Differs from the paper: DQN in place of SAC, for discrete actions; a lifetime is context and RL batch in one; the prior
    counts as a factor, and precisions come out of the encoder. Raises `Misuse` unless K ≥ 2 and the context is a vector.
    """
    latent = latent_of(network)
    check_real("kl", kl)
    example = jax.eval_shape(lambda: features(spec.head, blank(spec)))
    encoder = perceptron(example.size, 2 * latent, hidden=hidden)
    prior = Natural(jnp.zeros(latent), jnp.ones(latent))

    def factor(params, transition):
        mean, raw = jnp.split(encoder.apply(params, features(spec.head, transition)), 2)
        precision = jax.nn.softplus(raw)
        return Natural(precision * mean, precision)

    def evidence(params, segment):
        factors = jax.vmap(jax.vmap(lambda transition: factor(params, transition)))(segment)
        return jax.tree.map(lambda leaf: leaf.sum((0, 1)), factors)

    def draw_from(key, posterior):
        return Inferred(posterior, draw(key, gaussian_of(posterior)))

    def init(key):
        key_network, key_encoder = jax.random.split(key)
        return Inferring(network.init(key_network), encoder.init(key_encoder)), ()

    def adapt(key, slow, fast, segment):
        return draw_from(key, trees.add(fast.posterior, evidence(slow.params.encoder, segment))), {}

    def segments_loss(key, slow, lifetime):
        experience = lifetime.experience
        segments = experience.reward.shape[0]
        require(segments >= 2, f"PEARL needs a segment to infer z from, got span.segments={segments}; raise it to 2.")
        each = jax.vmap(lambda segment: evidence(slow.params.encoder, segment))(experience)
        upto = trees.join(trees.lift(prior), jax.tree.map(lambda leaf: leaf[:-1], each))
        before = jax.tree.map(lambda leaf: jnp.cumsum(leaf, 0), upto)

        def score(k, posterior, segment):
            z = draw_from(jax.random.fold_in(key, k), posterior).z
            bootstrap = trees.stop((slow.target.network, z))
            value = td_loss(loss, network, (slow.params.network, z), bootstrap, segment)
            return value, divergence(gaussian_of(posterior), unit(latent))

        values, divergences = trees.mean(jax.vmap(score)(jnp.arange(segments), before, experience))
        return values + kl * divergences, {"divergence": divergences}

    return MetaLearner(
        init=init,
        begin=lambda key, slow: draw_from(key, prior),
        q=lambda slow, fast, obs: network.apply(slow.params.network, obs, fast.z),
        adapt=adapt,
        loss=segments_loss,
        remember=forget,
    )


def latent_of(network: QNetwork) -> int:
    """The length of the vector that the network reads besides the observation. Raises `Misuse` where it reads none."""
    if network.context is None or len(network.context) != 1:
        raise Misuse(f"the network must read a vector as its context, got {network.context}; build it with context=5.")
    return network.context[0]


# --- diagonal Gaussians


def unit(latent: int) -> Gaussian:
    """N(0, I)."""
    return Gaussian(jnp.zeros(latent), jnp.zeros(latent))


def gaussian_of(natural: Natural) -> Gaussian:
    """The same Gaussian by its mean and log variance."""
    return Gaussian(natural.shift / natural.precision, -jnp.log(natural.precision))


def draw(key: Key, gaussian: Gaussian) -> Array:
    """A reparameterised sample [latent] (Kingma & Welling 2014)."""
    noise = jax.random.normal(key, gaussian.mean.shape)
    return gaussian.mean + jnp.exp(gaussian.log_variance / 2) * noise


def divergence(a: Gaussian, b: Gaussian) -> Array:
    """KL(a ‖ b), [].

    >>> float(divergence(Gaussian(jnp.ones(2), jnp.zeros(2)), unit(2)))
    1.0
    """
    ratio = a.log_variance - b.log_variance
    apart = (a.mean - b.mean) ** 2 * jnp.exp(-b.log_variance)
    return jnp.sum(jnp.exp(ratio) + apart - 1.0 - ratio) / 2
