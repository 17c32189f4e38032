"""What pulls teach of an arm's mean: how often it was pulled and what it paid in all, read through a conjugate prior."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import HUGE, check_real
from metadqn_jax.types import Array, Key


class ArmPrior(NamedTuple):
    """What is believed of arms before and after pulls; the arms are independent, and all arrays are [arms].

    mean: (pulls, paid) -> the posterior's mean.   draw: (key, pulls, paid) -> a mean that may be the true one.
    seen: (pulls) -> how many pulls the posterior is worth, those included that the prior is.
    """

    mean: Callable[[Array, Array], Array]
    draw: Callable[[Key, Array, Array], Array]
    seen: Callable[[Array], Array]


def beta_prior(successes: float = 1.0, failures: float = 1.0) -> ArmPrior:
    """Arms pay 1 or 0, with means ~ Beta(successes, failures), by default uniform (Gelman et al. 2013, section 2.4).

    Of rewards that no such arm pays the scores of strategies end as NaN, of which judges take the first: give arms that pay
    other numbers a `normal_prior`. Raises `Misuse` on parameters < 0.001 or > 1e9.

    >>> float(beta_prior(2, 1).mean(jnp.array(1.0), jnp.array(1.0)))  # one pull, which paid
    0.75
    """
    check_real("successes", successes, least=1e-3, most=HUGE)
    check_real("failures", failures, least=1e-3, most=HUGE)
    sampler = beta if min(successes, failures) >= 1 else jax.random.beta

    def possible(pulls, paid):
        return (paid >= 0) & (paid <= pulls)

    def mean(pulls, paid):
        return jnp.where(possible(pulls, paid), (paid + successes) / (pulls + successes + failures), jnp.nan)

    def draw(key, pulls, paid):
        fits = possible(pulls, paid)
        a, b = (jnp.where(fits, one, 1.0) for one in (paid + successes, pulls - paid + failures))
        return jnp.where(fits, sampler(key, a, b), jnp.nan)

    return ArmPrior(mean, draw, lambda pulls: pulls + (successes + failures))


def normal_prior(mean: Any = 0.0, spread: Any = 1.0, noise: Any = 1.0) -> ArmPrior:
    """Arms pay their means ~ N(mean, spread²) plus noise ~ N(0, noise²) (Gelman et al. 2013, section 2.5).

    The defaults are those of `gaussian_bandit`. Raises `Misuse` on a spread or a noise < 1e-6, and on numbers > 1e9.

    >>> float(normal_prior().mean(jnp.array(1.0), jnp.array(3.0)))  # one pull, which paid 3
    1.5
    """
    check_real("mean", mean, least=-HUGE, most=HUGE)
    check_real("spread", spread, least=1e-6, most=HUGE)
    check_real("noise", noise, least=1e-6, most=HUGE)
    worth = (noise / spread) ** 2  # of how many pulls the prior is

    def posterior_mean(pulls, paid):
        return (paid + worth * mean) / (pulls + worth)

    def draw(key, pulls, paid):
        return posterior_mean(pulls, paid) + noise * jax.lax.rsqrt(pulls + worth) * jax.random.normal(key, pulls.shape)

    return ArmPrior(posterior_mean, draw, lambda pulls: pulls + worth)


def beta(key: Key, a: Array, b: Array) -> Array:
    """Draws from Beta(a, b), for a and b of one shape, at least 1; several times faster than `jax.random.beta` on many.

    NaN where a or b is less, or not finite.

    A ratio of Gamma variables, each by Marsaglia and Tsang (2000, section 4): 95 of 100 proposals are accepted, so the
    whole array proposes until all of it is. Exact up to rounding.
    """
    shape = jnp.stack([a, b])
    valid = (shape >= 1) & jnp.isfinite(shape)
    scale = shape - 1 / 3
    width = jax.lax.rsqrt(9 * scale)

    def propose(state):
        i, drawn, accepted = state
        key_normal, key_uniform = jax.random.split(jax.random.fold_in(key, i))
        normal, height = jax.random.normal(key_normal, shape.shape), jax.random.exponential(key_uniform, shape.shape)
        cube = (1 + width * normal) ** 3
        allowed = normal**2 / 2 + scale * (1 - cube + jnp.log(jnp.maximum(cube, 1e-30)))
        fits = (cube > 0) & (-height < allowed)
        return i + 1, jnp.where(accepted, drawn, scale * cube), accepted | fits

    start = (jnp.int32(0), jnp.where(valid, 1.0, jnp.nan), ~valid)
    gammas = jax.lax.while_loop(lambda state: ~jnp.all(state[2]), propose, start)[1]
    return gammas[0] / gammas.sum(0)


UNIFORM = beta_prior()
