"""Strategies: planners that act, as learners that nothing trains, so that one evaluator judges them and the learned ones."""

from collections.abc import Callable
from typing import Any

from metadqn_jax.checks import Misuse
from metadqn_jax.learners.base import MetaLearner, forget
from metadqn_jax.types import Array, Key, Outputs, Transition


def strategy(
    begin: Callable[[Key], Any],
    q: Callable[[Any, Array], Outputs],
    adapt: Callable[[Key, Any, Transition], Any],
) -> MetaLearner:
    """A `MetaLearner` without parameters: what is known of a task is its fast state, and planning is what `adapt` does.

    begin: (key) -> belief.   q: (belief, obs) -> outputs, to be acted on greedily.
    adapt: (key, belief, Transition [T, 1]) -> belief, after every segment: T = 1 plans at each step, T = horizon at each
    episode's end.   Its `loss` raises `Misuse`.

    >>> import jax.numpy as jnp
    >>> always_first = strategy(lambda key: (), lambda belief, obs: jnp.array([1.0, 0.0]), lambda key, belief, seen: belief)
    >>> always_first.init(None)
    ((), ())
    """

    def loss(key, slow, lifetime):
        raise Misuse("a strategy has nothing to train, got a call of its loss; only judge it, with `evaluation.trial_returns`.")

    return MetaLearner(
        init=lambda key: ((), ()),
        begin=lambda key, slow: begin(key),
        q=lambda slow, belief, obs: q(belief, obs),
        adapt=lambda key, slow, belief, segment: (adapt(key, belief, segment), {}),
        loss=loss,
        remember=forget,
    )
