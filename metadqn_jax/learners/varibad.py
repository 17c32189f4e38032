"""VariBAD: a belief about the task that is trained to decode the whole lifetime, and a Q-network that reads it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import Misuse, check_count, check_real, require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.pearl import Gaussian, divergence, draw, latent_of, unit
from metadqn_jax.learners.rl2 import Recurrent, in_order, rl2
from metadqn_jax.memories.base import Memory, blank
from metadqn_jax.networks import perceptron
from metadqn_jax.td import Loss
from metadqn_jax.types import Array, Params, QNetwork, Slow, Spec


class Encoder(NamedTuple):
    """The parameters of a `belief`."""

    memory: Params
    layer: Params


class Decoding(NamedTuple):
    """The slow parameters: of what acts, whose memory is the `Encoder`, and of the two decoders."""

    actor: Recurrent
    reward: Params
    obs: Params


def varibad(
    network: QNetwork,
    memory: Memory,
    spec: Spec,
    *,
    loss: Callable[[Array], Loss],
    length: int,
    centred: bool = True,
    hidden: Sequence[int] = (64,),
    moments: int = 8,
    kl: Any = 0.1,
    weight: Any = 1.0,
) -> MetaLearner:
    """VariBAD with a Q-network (Zintgraf et al. 2020, eqs. 4-8; with Q-learning, Dorfman et al. 2021).

    RL² (`rl2`, with its trials of `length` transitions) whose memory is read as a `belief` q_t(z), the TD loss giving the
    encoder no gradient; plus `weight` · −ELBO / length, which alone trains it: from z ~ q_t, two perceptrons with `hidden`
    layers decode the rewards and successors of all transitions, past and future, −ELBO being the squared errors plus
    `kl` · KL(q_t ‖ q_{t−1}), with q_{−1} = N(0, I). `network` reads [2 · latent]: the belief's mean and variance.

    Rewards are `centred` as in `rl2`, for the decoder too, and else unscaled.
    Differs from the paper: Peng's Q(λ) in place of PPO; the lifetime is decoded from `moments` of the beliefs alone, evenly
    spaced with a random offset, and the belief after the last transition is left out. Raises `Misuse` on unfit sizes.
    """
    size = latent_of(network)
    require(size % 2 == 0, f"the network must read means and log variances, got context=({size},); make it even.")
    check_count("moments", moments)
    require(moments <= length, f"moments must be at most the trial's length {length}, got {moments}; lower it.")
    check_real("kl", kl)
    check_real("weight", weight)
    latent = size // 2
    encoder = belief(memory, latent)
    actor = rl2(network, told(encoder), loss=loss, length=length, centred=centred)
    action = jax.eval_shape(lambda: spec.head.embed(blank(spec).action)).size
    reward_decoder = perceptron(latent + 2 * spec.observation.size + action, 1, hidden=hidden)
    obs_decoder = perceptron(latent + spec.observation.size + action, spec.observation.size, hidden=hidden)

    def init(key):
        key_actor, key_reward, key_obs = jax.random.split(key, 3)
        params, memory = actor.init(key_actor)
        return Decoding(params, reward_decoder.init(key_reward), obs_decoder.init(key_obs)), memory

    def error(params, z, transition):
        """The squared error of one decoded transition."""
        obs, successor = (jnp.ravel(leaf).astype(jnp.float32) for leaf in (transition.obs, transition.next_obs))
        known = jnp.concatenate([z, obs, spec.head.embed(transition.action)])
        reward = reward_decoder.apply(params.reward, jnp.concatenate([known, successor]))[0]
        return (reward - transition.reward) ** 2 + jnp.sum((obs_decoder.apply(params.obs, known) - successor) ** 2)

    def surprise(key, params, stream):
        """(squared error per transition, KL) of a whole trial [T], each the mean over beliefs."""
        key_when, key_z = jax.random.split(key)
        trace = encoder.trace(params.actor.memory, stream)
        beliefs = gaussian(encoder.recall(params.actor.memory, trace, stream.obs, False))
        earlier = trees.join(trees.lift(unit(latent)), jax.tree.map(lambda leaf: leaf[:-1], beliefs))
        when = ((jnp.arange(moments) + jax.random.uniform(key_when)) * length / moments).astype(jnp.int32)

        def decode(i, t):
            z = draw(jax.random.fold_in(key_z, i), jax.tree.map(lambda leaf: leaf[t], beliefs))
            return jnp.mean(jax.vmap(lambda transition: error(params, z, transition))(stream))

        return jnp.mean(jax.vmap(decode)(jnp.arange(moments), when)), jnp.mean(jax.vmap(divergence)(beliefs, earlier))

    def trial_loss(key, slow, lifetime):
        key_actor, key_surprise = jax.random.split(key)
        value, info = actor.loss(key_actor, acting(slow), lifetime)
        stream = in_order(jax.tree.map(lambda leaf: leaf[:, 0], lifetime.experience))
        stream = stream._replace(reward=stream.reward - slow.memory)
        errors, apart = surprise(key_surprise, slow.params, stream)
        return value + weight * (errors + kl * apart / length), {**info, "decoding": errors, "divergence": apart}

    return MetaLearner(
        init=init,
        begin=lambda key, slow: actor.begin(key, acting(slow)),
        q=lambda slow, fast, obs: actor.q(acting(slow), fast, obs),
        adapt=lambda key, slow, fast, segment: actor.adapt(key, acting(slow), fast, segment),
        loss=trial_loss,
        remember=actor.remember,
    )


def acting(slow: Slow) -> Slow:
    """The slow state as what acts sees it, without the decoders."""
    return slow._replace(params=slow.params.actor, target=slow.target.actor)


def belief(memory: Memory, latent: int) -> Memory:
    """`memory` read through a linear layer as [2 · latent], the mean and log variance of a `Gaussian`. Raises `Misuse`."""
    check_count("latent", latent)
    if len(memory.context) != 1:
        raise Misuse(f"a belief needs a memory that is read as a vector, got context {memory.context}; choose another.")
    layer = perceptron(memory.context[0], 2 * latent, hidden=())

    def init(key):
        key_memory, key_layer = jax.random.split(key)
        return Encoder(memory.init(key_memory), layer.init(key_layer))

    def read(params, state, obs):
        return layer.apply(params.layer, memory.read(params.memory, state, obs))

    def recall(params, trace, obs, after):
        return jax.vmap(lambda read: layer.apply(params.layer, read))(memory.recall(params.memory, trace, obs, after))

    return Memory(
        init=init,
        begin=lambda params: memory.begin(params.memory),
        step=lambda params, state, transition: memory.step(params.memory, state, transition),
        read=read,
        trace=lambda params, stream: memory.trace(params.memory, stream),
        recall=recall,
        context=(2 * latent,),
    )


def gaussian(context: Array) -> Gaussian:
    """What a `belief` gives to read [..., 2 · latent] as a Gaussian."""
    return Gaussian(*jnp.split(context, 2, axis=-1))


def told(encoder: Memory) -> Memory:
    """A `belief` as what acts reads it: means and variances [2 · latent], whose streams give the encoder no gradient."""

    def tell(context):
        mean, log_variance = gaussian(context)
        return jnp.concatenate([mean, jnp.exp(log_variance)], -1)

    return encoder._replace(
        read=lambda params, state, obs: tell(encoder.read(params, state, obs)),
        trace=lambda params, stream: encoder.trace(trees.stop(params), stream),
        recall=lambda params, trace, obs, after: tell(encoder.recall(trees.stop(params), trace, obs, after)),
    )
