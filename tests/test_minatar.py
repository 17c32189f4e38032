"""MinAtar's games step by step against plain gymnax, seen through the inverse of what hides them; their tasks and torso."""

import dataclasses
import functools
import itertools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax import trees
from metadqn_jax.catalog import LEARNERS, learners_of
from metadqn_jax.checks import Misuse
from metadqn_jax.learners.base import first_slow
from metadqn_jax.planners.lookahead import planned_return
from metadqn_jax.tasks.base import sample_tasks, transition_like
from metadqn_jax.tasks.minatar import HORIZON, TABLE, game, native
from metadqn_jax.tasks.sided_invaders import sided_invaders
from metadqn_jax.tasks.vary import vary_uniform
from metadqn_jax.types import Lifetime, Span, Step

STEPS, DRAWS = 150, 400
family_of = functools.cache(game)


def lived(distribution, task, start, keys, actions):
    """Steps [T] of a stream from the world `start`."""
    return jax.lax.scan(lambda world, at: distribution.step(at[0], task, world, at[1]), start, (keys, actions))[1]


def lived_in_gymnax(env, params, start, keys, actions):
    """The same in plain gymnax, from the keys that the house's wrappers leave it with."""

    def step(state, at):
        key_step, key_reset = jax.random.split(jax.random.split(at[0])[1])  # the other half is for stickiness
        after, state, reward, terminated, _ = env.step_env(key_step, state, at[1], params)
        ended = terminated | (state.time >= HORIZON)
        fresh, reborn = env.reset_env(jax.random.split(key_reset)[0], params)
        state = jax.tree.map(lambda new, old: jnp.where(ended, new, old).astype(jnp.asarray(old).dtype), reborn, state)
        return state, (jnp.where(ended, fresh, after), after, reward, terminated)

    return jax.lax.scan(step, start, (keys, actions))[1]


def corners(name, default):
    """The default parameters, and each that varies at either end of its range, with a leading axis."""
    rows = [default, *(default.replace(**{field: end}) for field, ends in TABLE[name].ranges.items() for end in ends)]
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *rows)


@pytest.mark.parametrize("name", TABLE)
def test_every_step_equals_that_of_gymnax_under_the_inverse_of_the_disguise(name):
    """For every parameter's ends, all of which gymnax reads. Streams begin in an empty world, one step before the horizon."""
    family, (env, default) = family_of(name), gymnax.make(TABLE[name].env)
    keys, rng = jax.random.split(jax.random.key(2), STEPS), np.random.default_rng(1)
    native, order = rng.integers(0, env.num_actions, STEPS), rng.permutation(env.num_actions)
    pressed, upside_down = jnp.asarray(np.argsort(order)[native], jnp.int32), jnp.array([True, False])

    @jax.jit
    @jax.vmap
    def both(params):
        hidden = (((params, jnp.float32(0)), jnp.asarray(order, jnp.int32)), upside_down)
        start = trees.zeros(jax.eval_shape(family.split.test.reset, jax.random.key(0), hidden)[0])
        start = start._replace(inner=start.inner.replace(time=jnp.int32(HORIZON - 1)))
        ours = lived(family.split.test, hidden, start, keys, pressed)
        return ours, lived_in_gymnax(env, params, start.inner, jax.random.clone(keys), jnp.asarray(native, jnp.int32))

    steps, (obs, successor, reward, terminated) = both(corners(name, default.replace(max_steps_in_episode=HORIZON)))
    for seen, plain in ((steps.obs, obs), (steps.transition_obs, successor)):
        np.testing.assert_array_equal(np.flip(seen, -3), plain)
    np.testing.assert_array_equal(steps.reward, reward)
    np.testing.assert_array_equal(steps.terminated, terminated)
    assert steps.truncated[:, 0].all()
    assert steps.terminated.any() or name == "freeway"  # where nobody dies
    assert len(np.unique(np.asarray(obs[0]), axis=0)) > 5
    for field, low, high in zip(TABLE[name].ranges, obs[1::2], obs[2::2], strict=True):
        assert (low != high).any(), field


def test_a_dead_parameter_is_refused():
    with pytest.raises(Misuse, match=r"shot_cool_down must change something [^\n]*\."):
        vary_uniform({"shot_cool_down": (2, 8)})(jax.random.key(0), gymnax.make("Asterix-MinAtar")[1])


def test_sides_share_no_disguise_and_draw_from_the_whole_ranges():
    name, disguises = "asterix", []
    family = family_of(name)

    @jax.jit
    def drawn(key):
        return [sample_tasks(one, side, DRAWS) for one, side in zip(jax.random.split(key), family.split, strict=True)]

    sides = drawn(jax.random.key(3))
    for ((params, stickiness), order), mirrored in sides:
        disguises.append(set(map(tuple, np.concatenate([order, mirrored], 1).tolist())))
        assert 0 <= stickiness.min() < 0.03
        assert 0.22 < stickiness.max() < 0.25
        for field, (low, high) in TABLE[name].ranges.items():
            values = np.asarray(getattr(params, field))
            assert (values.min(), values.max(), values.dtype) == (low, high, np.int32)
    assert not disguises[0] & disguises[1]
    assert min(map(len, disguises)) >= 50
    shown = np.asarray(jax.jit(jax.vmap(family.features))(sides[0]))
    assert np.abs(shown).max() <= 1
    assert np.ptp(shown, axis=0).min() > 0.9


def test_a_planner_who_knows_breakout_keeps_the_ball():
    family, count = family_of("breakout"), 6
    params = gymnax.make(TABLE["breakout"].env)[1].replace(max_steps_in_episode=HORIZON)
    params = jax.tree.map(lambda value: jnp.full(count, value), params)
    order, mirrored = jnp.array(list(itertools.permutations(range(3))), jnp.int32), jnp.zeros((count, 2), bool)
    planned, keys = jax.jit(jax.vmap(family.optimum)), jax.random.split(jax.random.key(5), count)
    best, worst = (
        planned(jax.random.clone(keys), (((params, jnp.full(count, stickiness)), order), mirrored)) for stickiness in (0.0, 1.0)
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


@pytest.mark.parametrize(("name", "memory"), [("maml", None), ("rl2", "actions")])
def test_convolutions_are_trained_by(name, memory):
    """The gradient of the loss of a made-up lifetime, in a tiny network."""
    entry = LEARNERS[name]
    family = entry.prepare(family_of("breakout"))
    span = Span(4 if memory else 2, 1 if memory else 3, 1 if memory else 2)
    recipe = dataclasses.replace(family.recipe, span=span, hidden=(4, 4), channels=(2,), inner_steps=1)
    learner = learners_of(entry, family, recipe, memory=memory)[0](recipe.inner_steps)
    rng = np.random.default_rng(2)

    def made_up(leaf):
        shape = (span.segments, span.steps, span.streams, *leaf.shape)
        return jnp.asarray(rng.integers(0, 2, shape), leaf.dtype)

    lifetime = Lifetime((), jax.tree.map(made_up, transition_like(family.split.train)))

    @jax.jit
    def slope(key):
        key_init, key_loss = jax.random.split(key)
        slow = first_slow(learner, key_init)
        return jax.grad(lambda params: learner.loss(key_loss, slow._replace(params=params), lifetime)[0])(slow.params)

    slopes = jax.tree.leaves_with_path(slope(jax.random.key(6)))
    kernels = [leaf for path, leaf in slopes if {"torso_image", "kernel"} <= {getattr(one, "key", None) for one in path}]
    assert kernels
    assert all(jnp.abs(leaf).max() > 0 and jnp.isfinite(leaf).all() for leaf in kernels)


@pytest.mark.parametrize(
    "make",
    [lambda: game("pong"), lambda: game("breakout", -0.1), lambda: game("breakout", 1.5), lambda: sided_invaders(1.5)],
)
def test_impossible_games_are_refused_in_one_sentence(make):
    with pytest.raises(Misuse, match=r"^[^\n]+; [^\n]*\.$"):
        make()


def test_aliens_count_on_one_side_alone():
    """Both sides' rewards make the game's own, and each comes while the ship, in the last row of the picture, stands there."""
    distribution, shots = sided_invaders(sticky=0.0).split.train, jnp.tile(jnp.array([3, 1, 3, 1, 3, 1, 3, 2, 3, 2, 3, 2]), 25)
    one, _ = distribution.sample(jax.random.key(0))
    key_start, key_steps = jax.random.split(jax.random.key(1))
    start, obs = distribution.reset(key_start, (one, jnp.bool_(False)))
    keys = jax.random.split(key_steps, shots.size)
    rewards = {}
    for right in (False, True):
        steps = lived(distribution, (one, jnp.bool_(right)), start, jax.random.clone(keys), shots)
        rewards[right] = np.asarray(steps.reward)
    column = np.argmax(np.concatenate([obs[None], steps.obs[:-1]])[:, 9, :, 0], 1)
    plain = lived(native("space_invaders", 0.0), one, start, jax.random.clone(keys), shots)
    np.testing.assert_array_equal(rewards[False] + rewards[True], plain.reward)
    assert all(reward.sum() > 0 for reward in rewards.values())
    assert (column[rewards[True] > 0] >= 5).all()
    assert (column[rewards[False] > 0] < 5).all()
