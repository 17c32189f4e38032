"""MinAtar's games step by step against plain gymnax, seen through the inverse of what hides them; their tasks and torso."""

import dataclasses
import functools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import Misuse
from metadqn_jax.explore import by_segment
from metadqn_jax.planners.lookahead import planned_return
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.minatar import HORIZON, TABLE, game
from metadqn_jax.tasks.vary import vary_uniform
from metadqn_jax.training import make_trainer
from metadqn_jax.types import Span, Step

STEPS, DRAWS = 40, 400
LATE = HORIZON - 5  # streams start here, so that they meet the horizon
family_of = functools.cache(game)
each = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in TABLE])


def sides_of(family, key):
    return [jax.jit(lambda key, side=side: sample_tasks(key, side, DRAWS))(jax.random.clone(key)) for side in family.split]


def lived(distribution, task, keys, actions):
    """(first observation, Steps [T]) of a stream."""
    world, obs = distribution.reset(keys[0], task)
    world = world._replace(inner=world.inner.replace(time=jnp.int32(LATE)))
    _, steps = jax.lax.scan(lambda world, at: distribution.step(at[0], task, world, at[1]), world, (keys[1:], actions))
    return obs, steps


def lived_in_gymnax(env, params, keys, actions):
    """The same in plain gymnax, from the keys that the house's wrappers leave it with."""

    def begin(key):
        return env.reset_env(jax.random.split(key)[0], params)

    def step(state, at):
        key_step, key_reset = jax.random.split(jax.random.split(at[0])[1])  # the other half is for stickiness
        after, state, reward, terminated, _ = env.step_env(key_step, state, at[1], params)
        ended = terminated | (state.time >= HORIZON)
        fresh, reborn = begin(key_reset)
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old).astype(jnp.asarray(old).dtype), reborn, state)
        return state, (jnp.where(ended, fresh, after), after, reward, terminated)

    obs, state = begin(keys[0])
    state = jax.tree.map(jnp.asarray, state.replace(time=jnp.int32(LATE)))
    return obs, jax.lax.scan(step, state, (keys[1:], actions))[1]


@each
def test_every_step_equals_that_of_gymnax_under_the_inverse_of_the_disguise(name):
    family, (env, _) = family_of(name), gymnax.make(TABLE[name].env)
    task = jax.jit(family.split.test.sample)(jax.random.key(0))
    ((params, _), order), _ = task
    upside_down = jnp.array([True, False])
    keys = jax.random.split(jax.random.key(1), STEPS + 1)
    native = np.random.default_rng(0).integers(0, len(order), STEPS)
    pressed = jnp.asarray(np.argsort(order)[native], jnp.int32)

    @jax.jit
    def both(keys, params):
        hidden = (((params, jnp.float32(0)), order), upside_down)
        ours = lived(family.split.test, hidden, keys, pressed)
        return ours, lived_in_gymnax(env, params, jax.random.clone(keys), jnp.asarray(native, jnp.int32))

    (first, steps), (other, (obs, successor, reward, terminated)) = both(keys, params)
    for seen, plain in ((first, other), (steps.obs, obs), (steps.transition_obs, successor)):
        np.testing.assert_array_equal(np.flip(seen, -3), plain)
    np.testing.assert_array_equal(steps.reward, reward)
    np.testing.assert_array_equal(steps.terminated, terminated)
    assert bool(steps.truncated[4])
    assert len(np.unique(np.asarray(obs), axis=0)) > 5


@each
def test_gymnax_reads_every_parameter_that_varies(name):
    ranges, (env, default) = TABLE[name].ranges, gymnax.make(TABLE[name].env)
    keys = jax.random.split(jax.random.key(2), 2 * HORIZON + 1)
    actions = jnp.asarray(np.random.default_rng(1).integers(0, env.num_actions, 2 * HORIZON), jnp.int32)
    bounds = [default.replace(**{field: bound}) for field, pair in ranges.items() for bound in pair]
    if bounds:
        params = jax.tree.map(lambda *leaves: jnp.stack(jnp.broadcast_arrays(*leaves)), *bounds)
        _, (obs, *_) = jax.jit(jax.vmap(lambda one: lived_in_gymnax(env, one, keys, actions)))(params)
        for low, high, field in zip(obs[::2], obs[1::2], ranges, strict=True):
            assert (low != high).any(), field


def test_a_dead_parameter_is_refused():
    with pytest.raises(Misuse, match=r"shot_cool_down must change something [^\n]*\."):
        vary_uniform({"shot_cool_down": (2, 8)})(jax.random.key(0), gymnax.make("Asterix-MinAtar")[1])


@each
def test_sides_share_no_disguise_and_draw_from_the_whole_ranges(name):
    family, sides = family_of(name), sides_of(family_of(name), jax.random.key(3))
    disguises = []
    for ((params, stickiness), order), mirrored in sides:
        disguises.append(set(map(tuple, np.concatenate([order, mirrored], 1).tolist())))
        assert 0 <= stickiness.min() < 0.03
        assert 0.22 < stickiness.max() < 0.25
        for field, (low, high) in TABLE[name].ranges.items():
            drawn = np.asarray(getattr(params, field))
            assert (drawn.min(), drawn.max(), drawn.dtype) == (low, high, np.int32)
    assert not disguises[0] & disguises[1]
    assert min(map(len, disguises)) >= 3
    shown = np.asarray(jax.jit(jax.vmap(family.features))(sides[0]))
    assert np.abs(shown).max() <= 1
    assert np.ptp(shown, axis=0).min() > 0.9


def test_a_planner_who_knows_breakout_keeps_the_ball():
    family = family_of("breakout")
    count = 6
    tasks = jax.tree.map(lambda leaf: leaf[:count], sides_of(family, jax.random.key(4))[1])
    (((params, _), order), mirrored) = tasks
    best, worst = (
        jax.jit(jax.vmap(family.optimum))(jax.random.split(jax.random.key(5), count), (((params, stickiness), order), mirrored))
        for stickiness in (jnp.zeros(count), jnp.ones(count))
    )
    assert best.min() >= 6  # a brick takes 12 steps at first
    assert best.max() <= HORIZON / 10
    assert worst.max() <= 1  # whose buttons do nothing: the first no-op is held for ever


def test_plans_may_be_judged_by_more_than_their_rewards():
    """Jumping off pays 0.5, once."""

    def step(key, task, world, jump):
        flag = jnp.zeros((), bool)
        return world, Step(world, world, 0.5 * jump, jump == 1, flag)

    plans = jnp.int32([[0], [1]])
    jumper, careful = (
        planned_return(jax.random.key(8), plans, (), jnp.zeros(()), step, 3, **worth)
        for worth in ({}, {"worth": lambda seen: seen.reward - seen.terminated})
    )
    assert (float(jumper), float(careful)) == (0.5, 0.0)


# --- the torso


def trained_once(name, memory=None):
    """The slow parameters before and after one outer step, on a tiny network."""
    entry = LEARNERS[name]
    family = entry.prepare(family_of("breakout"))
    span = family.recipe.span
    span = Span(min(span.segments, 4), min(span.steps, 3), min(span.streams, 2))
    recipe = dataclasses.replace(family.recipe, span=span, hidden=(4, 4), channels=(2,), inner_steps=1)
    learner, _ = learners_of(entry, family, recipe, memory=memory)
    optimizer = optax.sgd(1.0)
    explore = by_segment(1.0, 0.5)
    trainer = make_trainer(learner, family.split.train, span, explore=explore, optimizer=optimizer, meta_batch=2)
    state = jax.jit(trainer.init)(jax.random.key(6))
    after, metrics = jax.jit(trainer.step)(jax.random.key(7), state)
    assert np.isfinite(metrics["loss"]).all()
    return state.slow.params, after.slow.params


@pytest.mark.parametrize(("name", "memory"), [("maml", None), ("cavia", None), ("rl2", "gru"), ("rl2", "actions")])
def test_convolutions_are_trained_by(name, memory):
    before, after = trained_once(name, memory)
    moved = {
        jax.tree_util.keystr(path): float(jnp.abs(now - was).max())
        for (path, now), was in zip(jax.tree.leaves_with_path(after), jax.tree.leaves(before), strict=True)
    }
    kernels = {path: change for path, change in moved.items() if "torso_image" in path and "kernel" in path}
    assert kernels
    assert min(kernels.values()) > 0


@pytest.mark.parametrize("make", [lambda: game("pong"), lambda: game("breakout", -0.1), lambda: game("breakout", 1.5)])
def test_impossible_games_are_refused_in_one_sentence(make):
    with pytest.raises(Misuse, match=r"^[^\n]+; [^\n]*\.$"):
        make()
