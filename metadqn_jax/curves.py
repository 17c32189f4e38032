"""Learning curves within one task: a life too long for all its fast states to be kept."""

from collections.abc import Callable

import jax

from metadqn_jax.checks import check_count, require
from metadqn_jax.evaluation import greedy_return
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.living import epsilon_greedy, rollout, start
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import TaskDistribution
from metadqn_jax.types import Array, Key, Slow, Span, Task


def learning_curve(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    distribution: TaskDistribution,
    task: Task,
    span: Span,
    explore: Callable,
    *,
    points: int,
    horizon: int,
    episodes: int = 16,
) -> Array:
    """Greedy return after each of `points` equal parts of a life in one task, float32 [points].

    The life is `live`'s, adaptation after each of the span's segments, of which only the present fast state is kept; each
    number is the mean of `episodes` episodes of at most `horizon` steps. `explore(outer_step, segment, t)` is ε. Raises
    `Misuse` unless the segments can be cut into so many parts.
    """
    check_count("points", points)
    require(
        span.segments % points == 0, f"points must divide the {span.segments} segments, got {points}; change span.segments."
    )
    head = distribution.spec.head

    def segment(key, k, state):
        fast, streams = state
        key_act, key_adapt = jax.random.split(key)
        act = epsilon_greedy(head, lambda obs: learner.q(slow, fast, obs), lambda t: explore(slow.step, k, t))

        def one(key, stream):
            return rollout(key, act, distribution, task, stream, span.steps)

        streams, seen = jax.vmap(one, out_axes=(0, 1))(jax.random.split(key_act, span.streams), streams)
        return learner.adapt(key_adapt, slow, fast, seen)[0], streams

    def part(key, i, state):
        key_live, key_probe = jax.random.split(key)
        size = span.segments // points
        state, _ = repeat(key_live, size, lambda key, j, state: (segment(key, i * size + j, state), None), state)
        return state, greedy_return(key_probe, learner, slow, state[0], distribution, task, horizon, episodes)

    key_begin, key_start, key_parts = jax.random.split(key, 3)
    streams = jax.vmap(lambda key: start(key, distribution, task))(jax.random.split(key_start, span.streams))
    return repeat(key_parts, points, part, (learner.begin(key_begin, slow), streams))[1]
