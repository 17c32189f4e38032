"""iMAML: adaptation solves a problem held near the start, and only its solution is differentiated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_real, require
from metadqn_jax.derivative import implicit
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.learners.descent import descend, from_current, from_start, from_stopped, proximal
from metadqn_jax.learners.rules import Rule, nesterov
from metadqn_jax.td import Loss
from metadqn_jax.types import Array, QNetwork


class Solving(NamedTuple):
    """The rule's state, and the gradient's norm in one inner problem: at its first step, and at the latest."""

    rule: Any
    first: Array
    latest: Array


def watched(rule: Rule, steps: int, tolerance: Any) -> Rule:
    """`rule` on problems of `steps` steps each, begun anew in each, which reports whether the last of them was solved.

    residual: the gradient's norm at a problem's last step relative to its first; unconverged: 1 if that is above
    `tolerance`, else 0. Raises `Misuse` on a negative tolerance.
    """
    check_real("tolerance", tolerance)

    def update(rates, state, step, weights, gradient):
        norm, begins = jnp.sqrt(trees.squared_norm(trees.stop(gradient))), step % steps == 0
        fresh = Solving(rule.begin(weights), norm, norm)
        state = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, state)
        weights, inner = rule.update(rates, state.rule, step % steps, weights, gradient)
        return weights, Solving(inner, state.first, norm)

    def report(state):
        residual = state.latest / jnp.maximum(state.first, jnp.finfo(state.first.dtype).tiny)
        return {"residual": residual, "unconverged": jnp.where(residual > tolerance, 1.0, 0.0), **rule.report(state.rule)}

    def begin(weights):
        norm = jnp.zeros_like(trees.squared_norm(weights))
        return Solving(rule.begin(weights), norm, norm)

    return Rule(rule.rates, begin, update, report)


def imaml(
    network: QNetwork,
    *,
    inner: Loss,
    outer: Loss,
    rate: Any,
    steps: int,
    strength: Any = 2.0,
    momentum: Any = 0.9,
    iterations: int = 10,
    tolerance: Any = 1e-2,
    clip: Any = 1.0,
    bootstrap: Callable = from_start,
    **choices: Any,
) -> MetaLearner:
    """MAML by the implicit derivative of min_φ L(φ) + strength/2 ‖φ − θ‖² (Rajeswaran et al. 2019, eqs. 3–8, algorithm 2).

    `steps` of descent with Nesterov's `momentum`, on gradients clipped to a norm of `clip`, are to reach the minimum; memory
    does not grow with them. The derivative is that of the minimum, so it is wrong where they stop early: the infos
    "residual" and "unconverged" (relative to `tolerance`) say so, and more steps or a greater `strength` help, which must
    also exceed the most negative curvature of L. Conjugate gradients take `iterations` at most, to the same `tolerance`.
    Each segment is a problem of its own, so what earlier ones taught is forgotten: use one support segment. Raises `Misuse`.
    Differs from the paper: Q-learning; the bootstrap depends on θ too, and the derivative goes through it. It must not
    move with φ, or the problem were no minimum: the default `from_start` is the nearest to MAML's `from_current`.
    """
    moves, name = bootstrap is from_current or bootstrap is from_stopped, getattr(bootstrap, "__name__", bootstrap)
    require(
        not moves,
        f"iMAML needs a bootstrap that does not move with the adapted weights, got {name}; pass from_start or from_target.",
    )
    return descend(
        network,
        inner,
        outer,
        rule=watched(nesterov(rate, momentum, clip), steps, tolerance),
        derivative=implicit(iterations, tolerance),
        penalty=proximal(strength),
        steps=steps,
        bootstrap=bootstrap,
        **choices,
    )
