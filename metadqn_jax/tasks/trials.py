"""Trials: several episodes of one task as one long episode, for learners that remember across episodes."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metadqn_jax.checks import Misuse, check_count, require
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution, TaskSplit, check_distribution, check_family, check_kind
from metadqn_jax.types import Array, Span, Step, Transition, World

TRIAL = Recipe(  # where the families' recipes for trials start from
    span=Span(segments=100, steps=1, streams=1),
    discount=0.9,
    inner_trace=0.0,
    outer_trace=0.7,
    reward_scale=0.3,
    query_epsilon=0.3,
    last_epsilon=0.1,
    support_epsilon=None,
    outer_rate=4e-3,
    meta_batch=64,
    outer_steps=1_500,
    outer_clip=1.0,
    warmup=100,
    last_rate=0.02,
    hidden=(128, 128),
    dueling=True,
    layer_norm=True,
)
REPLAYED = dataclasses.replace(  # where episodes end early: more and smaller steps, no centring
    TRIAL,
    discount=0.95,
    outer_trace=0.8,
    reward_scale=0.2,
    outer_rate=2e-3,
    meta_batch=16,
    fresh=8,
    capacity=48,
    centred=False,
)


class TrialWorld(NamedTuple):
    """The present episode's world and observation, and how many episodes, steps of the trial and of the episode are over."""

    inner: World
    obs: Array
    episode: Array  # int32 []
    time: Array  # int32 []
    steps: Array  # int32 []


class Resting(NamedTuple):
    """A world, its last observation, whether its episode is over, whether it terminated, and how many of its steps are."""

    inner: World
    obs: Array
    over: Array  # bool []
    terminated: Array  # bool []
    steps: Array  # int32 []


def absorb(distribution: TaskDistribution, horizon: int) -> TaskDistribution:
    """Every episode is `horizon` steps long: one that ends before rests where it ended, at reward 0; one that goes on is cut.

    What an early end gains or loses is so felt at once. In a `trial` whose episodes follow each other's ends it is felt where
    the trial rests, at its end, beyond the reach of a usual discount. An episode that the environment truncates rests, too,
    and is then truncated. Raises `Misuse` on a horizon < 1, and on a trial.
    """
    check_kind(distribution)
    check_count("horizon", horizon)
    _check_plain(distribution)

    def reset(key, task):
        inner, obs = distribution.reset(key, task)
        return Resting(inner, obs, jnp.zeros((), bool), jnp.zeros((), bool), jnp.int32(0)), obs

    def step(key, task, world, action):
        key_step, key_reset = jax.random.split(key)
        inner, step = distribution.step(key_step, task, world.inner, action)
        over, steps = world.over | step.terminated | step.truncated, world.steps + 1
        terminated = jnp.where(world.over, world.terminated, step.terminated)
        successor = jnp.where(world.over, world.obs, step.transition_obs)
        reward, last = jnp.where(world.over, 0.0, step.reward), steps == horizon
        after = Resting(inner, successor, over, terminated, steps)
        world, obs = _where(last, reset(key_reset, task), (after, successor))
        return world, Step(obs, successor, reward, last & terminated, last & ~terminated)

    absorbing = distribution._replace(reset=reset, step=step)
    check_distribution(absorbing)
    return absorbing


def trial(distribution: TaskDistribution, episodes: int, horizon: int) -> TaskDistribution:
    """One episode is a trial of `episodes` episodes of at most `horizon` steps, exactly episodes · horizon steps long.

    Inside it the successor of an episode's last step is the next episode's first observation, and no flag is set; its
    last step terminates, with the true successor. Episodes that end early let the next begin, those that would go on are
    cut; when all are over the world rests until the trial's end: reward 0, the observation stays (Duan et al. 2016, RL²,
    section 2.2).

    Observations are flattened, and two numbers stand behind them: 1 on an episode's first observation, else 0, and the
    share of the trial that is gone, since values of a finite horizon depend on it. Wrap what is to be observed first.
    Raises `Misuse` on sizes < 1, and on what is a trial already.
    """
    check_kind(distribution)
    _check_plain(distribution)
    check_count("episodes", episodes)
    check_count("horizon", horizon)
    length = episodes * horizon

    def seen(obs, starts, time):
        behind = jnp.stack([jnp.asarray(starts, jnp.float32), jnp.asarray(time, jnp.float32) / length])
        return jnp.concatenate([obs.ravel().astype(jnp.float32), behind])

    def begin(key, task):
        inner, obs = distribution.reset(key, task)
        return TrialWorld(inner, obs, jnp.int32(0), jnp.int32(0), jnp.int32(0))

    def reset(key, task):
        world = begin(key, task)
        return world, seen(world.obs, True, 0)

    def step(key, task, world, action):
        key_step, key_reset = jax.random.split(key)
        inner, step = distribution.step(key_step, task, world.inner, action)
        fresh = begin(key_reset, task)
        rests, time, steps = world.episode == episodes, world.time + 1, world.steps + 1
        own, over = step.terminated | step.truncated, time == length
        cut = (steps == horizon) & ~own
        ended = (own | cut) & ~rests
        episode = world.episode + ended
        starts = ended & (episode < episodes)
        first = jnp.where(cut, fresh.obs, step.obs)
        obs = jnp.where(rests, world.obs, jnp.where(starts, first, step.transition_obs))
        inner = _where(cut, fresh.inner, inner)
        goes_on = TrialWorld(inner, obs, episode, time, jnp.where(ended, 0, steps))
        successor = seen(obs, starts, time)
        world, obs = _where(over, (fresh, seen(fresh.obs, True, 0)), (goes_on, successor))
        return world, Step(obs, successor, jnp.where(rests, 0.0, step.reward), over, jnp.zeros((), bool))

    spec = distribution.spec.followed_by(2)._replace(trial=length)
    trials = TaskDistribution(distribution.sample, reset, step, spec)
    check_distribution(trials)
    return trials


def _where(condition, then, otherwise):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), then, otherwise)


def _check_plain(distribution: TaskDistribution) -> None:
    require(
        distribution.spec.trial is None,
        "what is absorbed or put in a trial must be plain episodes, got trials; absorb first, and put it in one only once.",
    )


def check_trials(distribution: TaskDistribution) -> None:
    """Raise `Misuse` unless a `trial` is what one observes: its start flags tell the episodes apart."""
    require(
        distribution.spec.trial is not None,
        "what is judged by the episodes of a trial must be observed as `trial` shows it, got other observations; "
        "put the family in trials (`in_trials`), and wrap what it observes before.",
    )


def episode_returns(experience: Transition, episodes: int) -> Array:
    """The undiscounted return [episodes] of each episode of one whole trial, a Transition [steps] or [K, T, 1].

    Episodes are told apart by the start flag, which `trial` leaves at obs[..., -2]: no wrapper may stand between.
    Episodes that did not begin have 0. Raises `Misuse` on more than one stream.
    """
    shape = experience.reward.shape
    require(
        len(shape) == 1 or shape[-1] == 1,
        f"the experience of one trial must have the shape [steps] or [K, T, 1], got {list(shape)}; vmap over streams.",
    )
    episode = jnp.cumsum(experience.obs[..., -2].ravel() > 0.5) - 1
    return jnp.zeros(episodes).at[episode].add(experience.reward.ravel())


def in_trials(family: Family) -> Family:
    """The family in trials of as many episodes as its `trial` recipe's segments hold; `horizon` stays one episode's.

    Every episode takes up its horizon (`absorb`), so that a trial's are told apart by its time.

    Raises `Misuse` if nobody has tuned a trial recipe for the family, its segments are no whole number of episodes, or it is
    in trials already.
    """
    check_family(family)
    recipe = family.trial
    if recipe is None:
        raise Misuse("a family that is put in trials must have a recipe for them, got None; set its field `trial`.")
    segments = recipe.span.segments
    episodes, rest = divmod(segments, family.horizon)
    require(
        rest == 0,
        f"a trial must be a whole number of episodes of {family.horizon} steps, got {segments} segments; "
        "change trial.span.segments.",
    )
    sides = (trial(absorb(side, family.horizon), episodes, family.horizon) for side in family.split)
    return family._replace(split=TaskSplit(*sides), recipe=recipe)
