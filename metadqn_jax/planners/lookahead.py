"""Looking ahead in a world that is known: try a few plans, begin the best one, and look again."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.loops import repeat
from metadqn_jax.types import Array, Key, Task, World


def planned_return(
    key: Key,
    plans: Array,
    task: Task,
    start: World,
    step: Callable[[Key, Task, World, Array], tuple[World, Any]],
    horizon: int,
    believed: Task | None = None,
    worth: Callable[[Any], Array] = lambda seen: seen.reward,
) -> Array:
    """The undiscounted return, [] float32, of an episode from `start`, each action of which begins the best of `plans`.

    plans: what `step` takes, [plans, steps, …]; the best one has the largest sum of `worth(step)`, by default of rewards, up
        to an episode's end.
    step: (key, task, world, action) -> (world, Step); each plan is tried once, with chances of its own, so that those
        should matter little. With `believed` the plans are tried in that task and acted upon in `task`: what one loses who
        does not adapt.
    The return is reached, so that it bounds the optimum from below; it is no bound from above.
    """
    assumed = task if believed is None else believed

    def promise(key, world, plan):
        def one(key, t, carry):
            return _advance(key, step, assumed, carry, plan[t], worth)

        return jnp.sum(repeat(key, plan.shape[0], one, (world, jnp.bool_(True)))[1])

    def act(key, t, carry):
        key_plans, key_step = jax.random.split(key)
        values = jax.vmap(promise, (0, None, 0))(jax.random.split(key_plans, plans.shape[0]), carry[0], plans)
        return _advance(key_step, step, task, carry, plans[jnp.argmax(values), 0], lambda seen: seen.reward)

    return jnp.sum(repeat(key, horizon, act, (start, jnp.bool_(True)))[1])


def _advance(key, step, task, carry, action, worth):
    """One step of an episode that may be over: ((world, whether it goes on), what it is worth)."""
    world, alive = carry
    world, seen = step(key, task, world, action)
    return (world, alive & ~(seen.terminated | seen.truncated)), jnp.where(alive, worth(seen), 0.0)
