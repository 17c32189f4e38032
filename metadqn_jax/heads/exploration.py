"""Exploration around any head's actions: held for some steps, dimension by dimension, or with correlated noise."""

from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.types import ActionHead, check_head


def held(head: ActionHead, steps: int) -> ActionHead:
    """`head`, whose exploration keeps each action that it draws for `steps` steps; a share ε of steps explores.

    Where none is held, one begins with probability ε / (s − ε (s − 1)), s being `steps`: in the long run that makes the share
    of single steps with probability ε. What is held outlasts an episode's end. Raises `Misuse` on fewer than 1 step.
    """
    check_head(head)
    check_count("steps", steps)

    def rest():
        action = _action(head)
        return head.rest(), jnp.zeros(action.shape, action.dtype), jnp.int32(0)

    def perturb(key, carry, action, epsilon):
        inner, kept, left = carry
        key_whether, key_which = jax.random.split(key)
        begins = (left == 0) & (jax.random.uniform(key_whether) < epsilon / (steps - epsilon * (steps - 1)))
        inner, drawn = head.perturb(key_which, inner, action, 1.0)
        kept, left = jnp.where(begins, drawn, kept), jnp.where(begins, steps, left)
        return (inner, kept, jnp.maximum(left - 1, 0)), jnp.where(left > 0, kept, action)

    return head._replace(rest=rest, perturb=perturb)


def by_dimension(head: ActionHead) -> ActionHead:
    """`head`, whose exploration replaces each component of an action with probability ε, on its own.

    What it is replaced by is the component of an action that `head` explores with at ε = 1. Raises `Misuse` unless actions
    are vectors.
    """
    check_head(head)
    shape = _action(head).shape
    require(len(shape) == 1, f"by_dimension needs a head whose actions are vectors [d], got shape {shape}; leave it out.")

    def perturb(key, carry, action, epsilon):
        key_whether, key_which = jax.random.split(key)
        carry, drawn = head.perturb(key_which, carry, action, 1.0)
        return carry, jnp.where(jax.random.uniform(key_whether, shape) < epsilon, drawn, action)

    return head._replace(perturb=perturb)


def ornstein_uhlenbeck(head: ActionHead, pull: Any = 0.15, spread: Any = 0.4) -> ActionHead:
    """`head`, whose exploration adds ε times an Ornstein–Uhlenbeck noise (Lillicrap et al. 2016, section 3 and appendix C).

    n ← (1 − pull) n + spread √(1 − (1 − pull)²) ξ with ξ ~ N(0, I), from n = 0: in the long run its standard deviation is
    `spread`, in half-widths of the box, in which the sum is kept. The noise outlasts an episode's end. The defaults are
    the paper's θ = 0.15 and σ = 0.2. Raises `Misuse` unless actions are real vectors, and on a pull or a spread < 1e-6, with
    which nothing would explore.
    """
    check_head(head)
    check_real("ornstein_uhlenbeck's pull", pull, least=1e-6, most=1.0)
    check_real("ornstein_uhlenbeck's spread", spread, least=1e-6)
    action = _action(head)
    require(
        jnp.issubdtype(action.dtype, jnp.floating),
        f"ornstein_uhlenbeck needs a head whose actions are real vectors, got {action.dtype}{list(action.shape)}; "
        "take `sampled` or `naf`, or another exploration.",
    )

    def perturb(key, noise, action, epsilon):
        kick = spread * jnp.sqrt(1 - (1 - pull) ** 2) * jax.random.normal(key, noise.shape, noise.dtype)
        noise = (1 - pull) * noise + kick
        return noise, jnp.clip(action + epsilon * noise, -1.0, 1.0)

    return head._replace(rest=lambda: jnp.zeros(action.shape, action.dtype), perturb=perturb)


def _action(head: ActionHead) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(head.sample, jax.random.key(0))
