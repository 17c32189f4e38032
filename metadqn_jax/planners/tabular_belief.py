"""What a trial teaches of a finite MDP: counts, and the conjugate posterior of rewards and transitions that they give."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import HUGE, check_real, is_traced, require
from metadqn_jax.types import Array, Key, Transition


class Prior(NamedTuple):
    """Mean rewards ~ N(reward_mean, reward_sd²), seen with noise N(0, noise_sd²); P(·|s, a) ~ Dirichlet(concentration).

    The defaults, `DUAN`, are those of Duan et al. (2016, RL², section 3.2). What says of rewards where they are may be an
    array that broadcasts to [S, A], the concentration one that broadcasts to [S, A, S]; the noise is one number.
    """

    reward_mean: Any = 1.0
    reward_sd: Any = 1.0
    noise_sd: Any = 1.0
    concentration: Any = 1.0


DUAN = Prior()
TINY = 1e-9  # the least whose squares, and what is made of two of them, stay within float32


class Counts(NamedTuple):
    """What was seen of each pair: its `visits` and the sum of its `rewards`, [S, A], and its successors, [S, A, S]."""

    visits: Array
    rewards: Array
    moves: Array


class Posterior(NamedTuple):
    """Mean rewards are independent N(mean, sd²), [S, A]; transitions are Dirichlet(concentration), [S, A, S]."""

    mean: Array
    sd: Array
    concentration: Array


def fit_prior(prior: Prior, states: int, actions: int) -> Prior:
    """The prior with all its numbers at full shape, float32. Raises `Misuse` on shapes that do not fit and on values that
    no normal or Dirichlet distribution has, or float32 none of their squares; only `reward_sd` may be 0, where mean
    rewards are known.
    """
    got = type(prior).__name__
    require(isinstance(prior, Prior), f"a Prior is needed here, got a {got}; write DUAN._replace(reward_mean=0.0), say.")
    shapes = [(states, actions), (states, actions), (), (states, actions, states)]
    fitted = []
    for (name, value), shape, least in zip(prior._asdict().items(), shapes, (-HUGE, 0.0, TINY, 1e-30), strict=True):
        got = _shape(value)
        fits = len(got) <= len(shape) and all(n in (1, m) for n, m in zip(got[::-1], shape[::-1], strict=False))
        require(fits, f"the prior's {name} must broadcast to {list(shape)}, got the shape {list(got)}; change its shape.")
        for number in [] if is_traced(value) else np.unique(value).tolist():
            check_real(f"the prior's {name}", number, least=least, most=HUGE)
        fitted.append(jnp.broadcast_to(jnp.asarray(value, jnp.float32), shape))
    return Prior(*fitted)


def _shape(value: Any) -> tuple[Any, ...]:
    try:
        return np.shape(value)
    except ValueError:  # rows of several lengths
        return ("of several lengths",)


def nothing_seen(states: int, actions: int) -> Counts:
    """The counts before the first step."""
    pairs = jnp.zeros((states, actions))
    return Counts(pairs, pairs, jnp.zeros((states, actions, states)))


def count(counts: Counts, segment: Transition) -> Counts:
    """The counts after a segment [T, E] of a trial (`tasks.trials`), whose observations begin with the one-hot state [S].

    The successor of an episode's last step is hidden behind the next episode's start: its reward is counted, it is not.
    """
    states = counts.visits.shape[0]
    place, action, onto = segment.obs[..., :states].argmax(-1), segment.action, segment.next_obs[..., :states].argmax(-1)
    shown = 1.0 - segment.next_obs[..., states]  # the start flag
    return Counts(
        counts.visits.at[place, action].add(1.0),
        counts.rewards.at[place, action].add(segment.reward),
        counts.moves.at[place, action, onto].add(shown),
    )


def posterior(prior: Prior, counts: Counts) -> Posterior:
    """What is believed after `counts`, by conjugacy (Gelman et al. 2013, sections 2.5 and 3.4)."""
    signal, noise = jnp.square(prior.reward_sd), jnp.square(prior.noise_sd)
    gain = signal / (noise + signal * counts.visits)
    mean = prior.reward_mean + gain * (counts.rewards - counts.visits * prior.reward_mean)
    return Posterior(mean, jnp.sqrt(gain * noise), prior.concentration + counts.moves)


def draw(key: Key, believed: Posterior) -> tuple[Array, Array]:
    """An MDP that may be the true one: transition [S, A, S], mean reward [S, A]."""
    key_transition, key_reward = jax.random.split(key)
    transition = jax.random.dirichlet(key_transition, believed.concentration)
    return transition, believed.mean + believed.sd * jax.random.normal(key_reward, believed.mean.shape)


def expected(believed: Posterior) -> tuple[Array, Array]:
    """The MDP of the posterior's means: transition [S, A, S], mean reward [S, A]."""
    return believed.concentration / believed.concentration.sum(-1, keepdims=True), believed.mean
