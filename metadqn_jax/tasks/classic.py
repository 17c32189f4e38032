"""Classic control whose physics vary from task to task."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.disguises import disguised, mix_observation
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import REPLAYED
from metadqn_jax.tasks.vary import derive
from metadqn_jax.tasks.wrappers import scale_observation
from metadqn_jax.types import Span

CARTPOLE_SCALE = (1 / 2.4, 1 / 2, 1 / 0.21, 1 / 2)
CARTPOLE_RECIPE = Recipe(
    span=Span(segments=2, steps=25, streams=8),
    discount=0.95,
    inner_trace=0.3,
    outer_trace=0.7,
    reward_scale=0.2,
    query_epsilon=0.2,
    outer_steps=1_500,
)
CARTPOLE_TRIAL = dataclasses.replace(REPLAYED, last_epsilon=0.03, outer_steps=2000)


def cartpole(cap: int = 200) -> Family:
    """CartPole with random masses, length and force, and with its two actions exchanged in half of the tasks.

    Episodes are cut at `cap` steps, which is taken for the optimum (an upper bound: some tasks may not reach it).
    Pole mass ~ U[.05, .4], half-length ~ U[.25, 1], cart mass ~ U[.5, 2], force ~ U[5, 15] with a random sign.
    Raises `Misuse` on a cap < 1.
    """
    check_count("cap", cap)
    import gymnax

    env, default = gymnax.make("CartPole-v1")

    def vary(key, params):
        key_pole, key_length, key_cart, key_force, key_sign = jax.random.split(key, 5)
        masspole = jax.random.uniform(key_pole, minval=0.05, maxval=0.4)
        length = jax.random.uniform(key_length, minval=0.25, maxval=1.0)
        masscart = jax.random.uniform(key_cart, minval=0.5, maxval=2.0)
        force = jax.random.uniform(key_force, minval=5.0, maxval=15.0)
        return cartpole_params(params, masscart, masspole, length, force * jax.random.rademacher(key_sign, (), jnp.float32))

    base = default.replace(max_steps_in_episode=cap)
    tasks = scale_observation(from_gymnax(env, vary, params=base), CARTPOLE_SCALE)
    trial = dataclasses.replace(CARTPOLE_TRIAL, span=Span(2 * cap, 1, 1))
    return Family(split(tasks), CARTPOLE_RECIPE, cap, lambda key, task: jnp.float32(cap), _cartpole_features, trial)


def mixed_cartpole(cap: int = 200) -> Family:
    """`cartpole` behind a random matrix, drawn with the task, through which its observation is seen (`mix_observation`)."""
    return disguised(cartpole(cap), mix_observation)


def _cartpole_features(task):
    """Masses in kg, half-length in m, force in 10 N with its sign."""
    return jnp.stack([task.masscart, task.masspole, task.length, task.force_mag / 10.0])


def cartpole_params(params, masscart, masspole, length, force):
    """CartPole's EnvParams with these physics (kg, kg, m, N) and the fields derived from them: gymnax reads those only."""
    return derive(params.replace(masscart=masscart, masspole=masspole, length=length, force_mag=force))
