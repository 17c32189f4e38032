"""Exploration schedules: `explore(outer_step, segment, t) -> ε`, arithmetic only, so that they trace."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metadqn_jax.checks import Misuse, check_callable, check_real, is_traced, require


def by_segment(*epsilons: Any) -> Callable:
    """ε of each segment in turn, the last one for all that follow: `by_segment(1.0, 0.5)` explores the support fully.

    Raises `Misuse` outside [0, 1].

    >>> float(by_segment(1.0, 0.5)(0, 3, 0))
    0.5
    """
    require(len(epsilons) > 0, "by_segment needs at least one ε, got none; write by_segment(1.0).")
    for epsilon in epsilons:
        check_real("the exploration rate ε", epsilon, most=1.0)
    return lambda outer_step, segment, t: jnp.stack([jnp.float32(e) for e in epsilons])[jnp.minimum(segment, len(epsilons) - 1)]


def annealed(first: Any, last: Any, over: int) -> Callable:
    """ε from `first` to `last`, linearly over the first `over` outer steps. Raises `Misuse` outside [0, 1]."""
    check_real("the first exploration rate ε", first, most=1.0)
    check_real("the last exploration rate ε", last, most=1.0)
    check_real("over", over, least=1)
    return lambda outer_step, segment, t: first + (last - first) * jnp.minimum(outer_step / over, 1.0)


def check_explore(explore: Any, segments: int) -> None:
    """Raise `Misuse` unless it is a schedule that traces, of rates in [0, 1]: the first outer step is looked at."""
    check_callable("explore", explore, "outer_step, segment, step")
    at = jnp.zeros(segments, jnp.int32), jnp.arange(segments), jnp.zeros(segments, jnp.int32)
    try:
        with jax.ensure_compile_time_eval():
            rates = jax.vmap(lambda *at: jnp.asarray(explore(*at)))(*at)
    except Exception as error:  # whatever a schedule may raise
        reason = " ".join(str(error).split())[:150]
        raise Misuse(f"explore must be arithmetic that traces, got the error {reason!r}; write it with jax.numpy.") from error
    shape, number = rates.shape[1:], rates.ndim == 1 and rates.dtype != bool
    require(number, f"explore must give a number, the rate ε, got {rates.dtype}{list(shape)}; give a scalar.")
    if not is_traced(rates):
        for end in (rates.min(), rates.max()):
            check_real("the exploration rate ε", float(end), most=1.0)
