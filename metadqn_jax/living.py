"""Living in tasks: the one way in which training collects experience and evaluation measures it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax import trees
from metadqn_jax.checks import check_callable, check_count
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import TaskDistribution
from metadqn_jax.types import ActionHead, Array, Info, Key, Lifetime, Slow, Span, Task, Transition, World


class Stream(NamedTuple):
    """Where one stream stands: the world, its observation, and what exploration carries along."""

    world: World
    obs: Array
    noise: Any


class Life(NamedTuple):
    """A lifetime, the fast states [adaptations + 1] of which the first is not adapted, and the infos [adaptations]."""

    lifetime: Lifetime
    fasts: Any
    infos: Info


def start(key: Key, distribution: TaskDistribution, task: Task) -> Stream:
    """A stream at the start of an episode."""
    world, obs = distribution.reset(key, task)
    return Stream(world, obs, trees.strengthen(distribution.spec.head.rest()))


def rollout(
    key: Key, act: Callable, distribution: TaskDistribution, task: Task, stream: Stream, steps: int
) -> tuple[Stream, Transition]:
    """`steps` (T) steps of one stream with `act: (key, t, noise, obs) -> (noise, action)`: the stream, Transition [T]."""

    def step(key, t, stream):
        key_act, key_step = jax.random.split(key)
        noise, action = act(key_act, t, stream.noise, stream.obs)
        world, step = distribution.step(key_step, task, stream.world, distribution.spec.head.decode(action))
        seen = Transition(stream.obs, action, step.reward, step.transition_obs, step.terminated, step.truncated)
        return Stream(world, step.obs, noise), seen

    return repeat(key, steps, step, stream)


def epsilon_greedy(head: ActionHead, q: Callable[[Array], Any], epsilon: Callable[[Array], Any]) -> Callable:
    """Act greedily on `q(obs)` but for exploration, with ε = `epsilon(t)`."""

    def act(key, t, noise, obs):
        return head.perturb(key, noise, head.greedy(q(obs)), epsilon(t))

    return act


def live(
    key: Key,
    learner: MetaLearner,
    slow: Slow,
    distribution: TaskDistribution,
    task: Task,
    span: Span,
    explore: Callable,
    *,
    repeats: int = 1,
) -> Life:
    """One lifetime in one task: K segments of T steps in E streams, with `adapt` called `repeats` times after each.

    `explore(outer_step, segment, t)` is the exploration rate ε. Segments do not reset the world. A one-step learner
    with `repeats` = k shows every one of k gradient steps on the same segment. Raises `Misuse` on `repeats` < 1.
    """
    check_callable("explore", explore, "outer_step, segment, step")
    check_count("repeats", repeats)
    head = distribution.spec.head
    key_begin, key_start, key_segments, key_adapt = jax.random.split(key, 4)

    def segment(key, k, fast, streams):
        act = epsilon_greedy(head, lambda obs: learner.q(slow, fast, obs), lambda t: explore(slow.step, k, t))

        def one(key, stream):
            return rollout(key, act, distribution, task, stream, span.steps)

        return jax.vmap(one, out_axes=(0, 1))(jax.random.split(key, span.streams), streams)

    def adapt(key, fast, experience):
        def once(key, i, fast):
            fast, info = learner.adapt(key, slow, fast, experience)
            return fast, (fast, info)

        return repeat(key, repeats, once, fast)

    def adapt_and_go_on(key, i, carry):
        fast, streams, experience = carry
        key_segment, key_adapt = jax.random.split(key)
        fast, (fasts, infos) = adapt(key_adapt, fast, experience)
        streams, experience = segment(key_segment, i + 1, fast, streams)
        return (fast, streams, experience), (experience, fasts, infos)

    # The last adaptation stands outside the loop: where nobody asks for what it gives, it is never computed.
    key_first, key_rest = jax.random.split(key_segments)
    fast = learner.begin(key_begin, slow)
    streams = jax.vmap(lambda key: start(key, distribution, task))(jax.random.split(key_start, span.streams))
    streams, experience = segment(key_first, 0, fast, streams)
    last, (later, fasts, infos) = repeat(key_rest, span.segments - 1, adapt_and_go_on, (fast, streams, experience))
    _, (last_fasts, last_infos) = adapt(key_adapt, last[0], last[2])
    return Life(
        Lifetime(task, trees.join(trees.lift(experience), later)),
        trees.join(trees.lift(fast), trees.flatten_axes(fasts, 2), last_fasts),
        trees.join(trees.flatten_axes(infos, 2), last_infos),
    )


def episode_return(key: Key, act: Callable, distribution: TaskDistribution, task: Task, horizon: int) -> Array:
    """The undiscounted return of one episode from reset, [] float; steps after its end count nothing."""
    key_start, key_steps = jax.random.split(key)
    stream = start(key_start, distribution, task)
    _, seen = rollout(key_steps, act, distribution, task, stream, check_count("horizon", horizon))
    ended = jnp.cumsum(seen.terminated | seen.truncated)
    alive = jnp.concatenate([jnp.zeros(1, ended.dtype), ended[:-1]]) == 0
    return jnp.sum(jnp.where(alive, seen.reward, 0.0))
