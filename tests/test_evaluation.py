"""The three judges: after gradient steps on one batch, after fresh segments, and in the episodes of a trial."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax import programs
from metadqn_jax.actions import discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.evaluation import (
    adaptation_returns,
    random_returns,
    random_trial_returns,
    segment_returns,
    trial_returns,
)
from metadqn_jax.explore import by_segment
from metadqn_jax.judges import by_episodes, by_segments, by_steps
from metadqn_jax.learners.base import MetaLearner, first_slow, forget
from metadqn_jax.tasks.base import Family, Recipe, TaskDistribution, TaskSplit
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.types import Span, Spec, Step

ACTIONS, LENGTH, HORIZON = 4, 2, 3  # episodes end a step before the horizon
SPAN, TRIAL = Span(2, 3, 2), Span(2 * HORIZON, 1, 1)
WORTHS = jnp.array([1.0, 10.0])


def shop():
    """An action's reward is its number times the task; a task is a number."""

    def reset(key, task):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, task, time, action):
        ended, reward = time + 1 == LENGTH, task * action
        return jnp.where(ended, 0, time + 1), Step(jnp.zeros(1), jnp.zeros(1), reward, ended, jnp.zeros((), bool))

    spec = Spec(jax.ShapeDtypeStruct((1,), jnp.float32), discrete(ACTIONS))
    return TaskDistribution(lambda key: jax.random.uniform(key, minval=1.0, maxval=2.0), reset, step, spec)


def family():
    sizes = {"discount": 0.9, "inner_trace": 0.0, "outer_trace": 0.0, "reward_scale": 1.0, "outer_steps": 4, "meta_batch": 2}
    recipe = functools.partial(Recipe, **sizes, query_epsilon=0.0, support_epsilon=0.0, inner_steps=3)
    tasks, best = TaskSplit(shop(), shop()), LENGTH * (ACTIONS - 1)
    return Family(tasks, recipe(SPAN), HORIZON, lambda key, task: best * task, lambda task: task[None], recipe(TRIAL))


def puppet(adapt):
    """A learner whose fast state is the action that it holds best."""

    def q(slow, fast, obs):
        return jax.nn.one_hot(fast % ACTIONS, ACTIONS)

    def loss(key, slow, lifetime):
        return 0.0 * slow.params, {}

    return MetaLearner(lambda key: (jnp.zeros(()), ()), lambda key, slow: jnp.int32(0), q, adapt, loss, forget)


def one_better(key, slow, fast, segment):
    """One more than the best action in the segment, so that adapting twice on one segment adds nothing."""
    return segment.action.max() + 1, {}


def next_action(key, slow, fast, segment):
    assert segment.reward.shape == (1, 1)
    return fast + 1, {}


def judge(returns, learner, distribution, *points, **sizes):
    """Returns [tasks, points] in tasks worth 1 and 10."""
    slow = first_slow(learner, jax.random.key(0))
    run = jax.jit(lambda key: returns(key, learner, slow, distribution, WORTHS, *points, **sizes))
    return np.asarray(run(jax.random.key(1)))


def test_each_segment_is_collected_by_what_all_before_it_taught():
    sizes = {"span": SPAN, "explore": by_segment(0.0), "horizon": HORIZON, "episodes": 2}
    fresh = judge(segment_returns, puppet(one_better), shop(), (0, 1, 3), **sizes)
    np.testing.assert_allclose(fresh, LENGTH * np.outer(WORTHS, [0, 1, 3]))
    one_batch = judge(adaptation_returns, puppet(one_better), shop(), (0, 1, 3), **sizes)
    np.testing.assert_allclose(one_batch, LENGTH * np.outer(WORTHS, [0, 1, 1]))
    np.testing.assert_allclose(judge(segment_returns, puppet(one_better), shop(), (0,), **sizes), np.zeros((2, 1)))


def test_segments_explore_as_in_training():
    sizes = {"span": SPAN, "explore": by_segment(0.0, 1.0), "horizon": HORIZON}
    first, second = judge(segment_returns, puppet(one_better), shop(), (1, 2), **sizes)[0]
    assert first == LENGTH
    assert second != 2 * LENGTH, "the second segment was random: its best action is all but never the first's"


def by_hand(distribution, task):
    """Actions 0, 1, 2, 3, 0, … through one trial in Python; an episode's rewards are known by its start flag."""
    world, obs = distribution.reset(jax.random.key(0), task)
    returns = []
    for t in range(TRIAL.segments):
        if obs[-2] > 0.5:
            returns.append(0.0)
        world, step = distribution.step(jax.random.key(t), task, world, jnp.int32(t % ACTIONS))
        returns[-1] += float(step.reward)
        obs = step.obs
    return returns


def test_a_trial_is_a_python_loop():
    trials, sizes = in_trials(family()).split.test, {"span": TRIAL, "horizon": HORIZON, "episodes": 2}
    expected = np.array([by_hand(trials, worth) for worth in WORTHS])
    assert (expected[0] == [0 + 1, 3 + 0]).all()  # action 2 is taken while the first episode rests
    np.testing.assert_allclose(judge(trial_returns, puppet(next_action), trials, (1, 2), **sizes), expected)
    np.testing.assert_allclose(judge(trial_returns, puppet(next_action), trials, (2,), **sizes), expected[:, 1:])


def test_random_returns_of_a_trial_are_an_episode_s():
    trials = in_trials(family()).split.test
    many = jax.jit(lambda key: random_trial_returns(key, trials, WORTHS, span=TRIAL, horizon=HORIZON, episodes=2_000))
    got, error = np.asarray(many(jax.random.key(2))) / WORTHS, 4 * np.sqrt(LENGTH * 1.25 / 2_000)
    np.testing.assert_allclose(got, LENGTH * 1.5, atol=error)


MISTAKES = {
    "no points": ((), "must increase"),
    "falling": ((3, 1), "must increase"),
    "twice": ((1, 1), "must increase"),
    "negative": ((-1, 1), "at least"),
    "a fraction": ((0.5,), "whole number"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("make", [by_steps, by_segments, by_episodes])
def test_points_that_no_judge_takes(make, mistake):
    points, hint = MISTAKES[mistake]
    judged = make(family().trial, by_segment(0.0), HORIZON)
    with pytest.raises(Misuse, match=hint):
        judged.returns(jax.random.key(0), puppet(next_action), None, shop(), WORTHS, points)


@pytest.mark.parametrize(("points", "hint"), [((0, 1), "at least 1"), ((1, 3), "among the 2")])
def test_episodes_that_a_trial_has_not(points, hint):
    judged = by_episodes(family().trial, by_segment(0.0), HORIZON)
    with pytest.raises(Misuse, match=hint):
        judged.returns(jax.random.key(0), puppet(next_action), None, in_trials(family()).split.test, WORTHS, points)


SIZES = {"horizon": "horizon must be", "episodes": "episodes must be", "chunk": "chunk must be"}


PROBES = [(probe, size) for probe in (adaptation_returns, segment_returns, trial_returns) for size in SIZES]
PROBES += [(random_returns, "horizon"), (random_returns, "episodes")]


@pytest.mark.parametrize(("returns", "size"), PROBES)
def test_sizes_of_nothing(returns, size):
    trials = in_trials(family()).split.test
    place, span = (trials, TRIAL) if returns is trial_returns else (shop(), SPAN)
    sizes = {"span": span, "explore": by_segment(0.0), "horizon": HORIZON, "episodes": 2, "chunk": 2, size: 0}
    sizes = {name: sizes[name] for name in inspect.signature(returns).parameters if name in sizes}
    learner = puppet(next_action if returns is trial_returns else one_better)
    learned = () if returns is random_returns else (learner, first_slow(learner, jax.random.key(0)))
    points = {"points": (1,)} if returns is trial_returns else {}
    with pytest.raises(Misuse, match=SIZES[size]):
        returns(jax.random.key(0), *learned, place, WORTHS, **sizes, **points)


def test_one_task_is_not_several():
    with pytest.raises(Misuse, match="must share a leading axis"):
        random_returns(jax.random.key(0), shop(), WORTHS[0], horizon=HORIZON)


def test_two_trials_are_not_one():
    trials = in_trials(family()).split.test
    with pytest.raises(Misuse, match="a trial of 6 steps must be lived whole, got a span of 12"):
        judge(trial_returns, puppet(next_action), trials, (1, 2, 3), span=Span(12, 1, 1), horizon=HORIZON)


PROGRAMS = {
    "steps": (lambda f: f, one_better, by_steps, (0, 1, 2, 3, 5, 10), (0, 1)),
    "segments": (lambda f: f, one_better, by_segments, (0, 1, 2, 3), (0, 1)),
    "episodes": (in_trials, next_action, by_episodes, (1, 2), (1 / LENGTH, 3 / LENGTH)),
}


@pytest.mark.parametrize("unit", PROGRAMS)
def test_a_program_is_judged_by_its_judge(unit):
    prepare, adapt, make, points, watched = PROGRAMS[unit]
    place, learner = prepare(family()), puppet(adapt)
    program = programs.make_program(place, lambda steps: learner, place.recipe, judge=make, tasks=4)
    assert (program.unit, program.points) == (unit, points)
    slow = first_slow(learner, jax.random.key(0))
    result = jax.jit(program.evaluate)(jax.random.key(3), slow)
    assert result["returns"].shape == (4, len(points))
    assert (result["random"] <= result["optimum"]).all()
    before, after = jax.jit(program.watch)(jax.random.key(4), slow)
    assert before == pytest.approx(watched[0] * LENGTH * 1.5, rel=0.2)
    assert after == pytest.approx(watched[1] * LENGTH * 1.5, rel=0.2)
