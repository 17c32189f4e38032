"""`tabular`: random finite MDPs (Duan et al. 2016, RL², section 3.2)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, is_traced
from metadqn_jax.environments.tabular import Tabular
from metadqn_jax.planners.tabular import value_iteration
from metadqn_jax.planners.tabular_belief import DUAN, Prior, fit_prior
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Span

RECIPE = Recipe(
    span=Span(segments=2, steps=10, streams=20),
    discount=0.8,
    inner_trace=0.0,
    outer_trace=0.0,
    reward_scale=0.3,
    query_epsilon=0.5,
    inner_rate=1.0,
    outer_steps=1_000,
)
TRIAL_RECIPE = dataclasses.replace(
    TRIAL,
    discount=0.92,
    outer_trace=0.5,
    memory="attention",
)


def tabular(states: int = 10, actions: int = 5, horizon: int = 10, *, episodes: int = 10, prior: Prior = DUAN) -> Family:
    """Random finite MDPs: mean rewards ~ N(1, 1), seen with noise N(0, 1), P(·|s, a) ~ Dirichlet(1), start in state 0.

    episodes: in a trial.   prior: what else MDPs are drawn from.
    With the defaults a random policy returns 10.0 an episode and the optimum is 21.8. Raises `Misuse` on sizes < 1 and
    on a prior that does not fit them.
    """
    for name, size in (("states", states), ("actions", actions), ("horizon", horizon), ("episodes", episodes)):
        check_count(name, size)
    env, fitted = Tabular(states, actions), fit_prior(prior, states, actions)
    flat = not is_traced(prior.concentration) and bool(np.all(np.asarray(prior.concentration) == 1))

    def vary(key, params):
        key_transition, key_reward = jax.random.split(key)
        if flat:  # normalised exponentials, drawn ten times as fast
            weights = jax.random.exponential(key_transition, (states, actions, states))
            transition = weights / weights.sum(-1, keepdims=True)
        else:
            transition = jax.random.dirichlet(key_transition, fitted.concentration)
        reward = fitted.reward_mean + fitted.reward_sd * jax.random.normal(key_reward, (states, actions))
        return params.replace(transition=transition, reward=reward)

    def optimum(key, task):
        return value_iteration(task.transition, task.reward, horizon)[0][0, 0]

    def features(task):
        return jnp.concatenate([states * task.transition.ravel(), task.reward.ravel()])

    base = dataclasses.replace(env.default_params, max_steps_in_episode=horizon, noise=fitted.noise_sd)
    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(episodes * horizon, 1, 1))
    recipe = RECIPE.with_steps(horizon)
    return Family(split(from_gymnax(env, vary, params=base)), recipe, horizon, optimum, features, trial)
