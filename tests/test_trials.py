"""Trials against a plain loop over the episodes that they are made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.living import rollout, start
from metadqn_jax.tasks.base import check_distribution
from metadqn_jax.tasks.classic import cartpole
from metadqn_jax.tasks.gridnavi import gridnavi
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.trials import absorb, episode_returns, in_trials, trial
from metadqn_jax.types import Span, Transition


def twin(distribution, task, key, keys, actions, episodes, length):
    """Per step what a trial must show: (obs, successor, obs after, reward, terminated), by a plain loop over episodes."""

    def shown(obs, begins, t):
        return np.array([*np.ravel(obs), begins, t / length], np.float32)

    reset, step = jax.jit(distribution.reset), jax.jit(distribution.step)
    (world, obs), over, t = reset(key, task), 0, 0
    now, rows = shown(obs, 1, 0), []
    for key, action in zip(keys, actions, strict=True):
        key_step, key_reset = jax.random.split(key)
        begins, reward, t = 0, 0.0, t + 1
        if over < episodes:
            world, seen = step(key_step, task, world, action)
            reward, obs = float(seen.reward), seen.transition_obs
            if bool(seen.terminated) or bool(seen.truncated):
                over += 1
                if over < episodes:
                    obs, begins = seen.obs, 1
        successor = after = shown(obs, begins, t)
        if t == length:
            (world, obs), over, t = reset(key_reset, task), 0, 0
            after = shown(obs, 1, 0)
        rows.append((now, successor, after, reward, t == 0))
        now = after
    return map(np.stack, zip(*rows, strict=True))


@pytest.fixture(scope="module", params=[gridnavi, lambda: cartpole(cap=30)], ids=["one length", "ending early"])
def lives(request):
    """Random actions for a trial and a half: (obs, successor, obs after, reward, terminated), and the twin's."""
    family, episodes = request.param(), 3
    base, length = family.split.train, episodes * family.horizon
    trials = trial(base, episodes, family.horizon)
    check_distribution(trials)
    key_task, key_reset, key_actions, key_steps = jax.random.split(jax.random.key(5), 4)
    task = jax.jit(base.sample)(key_task)
    keys = jax.random.split(key_steps, 3 * length // 2)
    actions = jax.vmap(base.spec.head.sample)(jax.random.split(key_actions, len(keys)))
    expected = twin(base, task, jax.random.clone(key_reset), jax.random.clone(keys), actions, episodes, length)
    world, now = jax.jit(trials.reset)(key_reset, task)
    step, rows = jax.jit(trials.step), []
    for key, action in zip(keys, actions, strict=True):
        world, seen = step(key, task, world, action)
        assert not seen.truncated
        rows.append((now, seen.transition_obs, seen.obs, seen.reward, seen.terminated))
        now = seen.obs
    return episodes, length, tuple(map(np.stack, zip(*rows, strict=True))), tuple(expected)


def test_a_trial_equals_a_loop_over_its_episodes(lives):
    _, _, got, expected = lives
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_inside_a_trial_the_successor_is_the_next_observation(lives):
    _, length, (_, successor, after, _, terminated), _ = lives
    np.testing.assert_array_equal(np.flatnonzero(terminated), [length - 1])
    np.testing.assert_allclose(successor[~terminated], after[~terminated], rtol=1e-6)  # XLA may round one sum in two ways
    np.testing.assert_array_equal(successor[length - 1, -2:], [0.0, 1.0])
    np.testing.assert_array_equal(after[length - 1, -2:], [1.0, 0.0])


def test_the_start_flag_and_the_time(lives):
    episodes, length, (obs, *_), _ = lives
    np.testing.assert_allclose(obs[:, -1], np.arange(len(obs)) % length / length, rtol=1e-6)
    assert set(obs[:, -2]) == {0.0, 1.0}
    assert obs[0, -2] == obs[length, -2] == 1
    starts = np.flatnonzero(obs[:length, -2])
    assert len(starts) == episodes
    assert (starts % (length // episodes)).any() == (obs.shape[1] == 4 + 2)  # poles fall early


def lived(trials, steps, act, lives=1):
    """Tasks [lives] and their Transition [lives, steps] with `act: (key) -> action`."""

    def one(key):
        key_task, key_start, key_steps = jax.random.split(key, 3)
        task = trials.sample(key_task)
        stream = start(key_start, trials, task)
        return task, rollout(key_steps, lambda key, t, noise, obs: (noise, act(key)), trials, task, stream, steps)[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), lives)))


@pytest.fixture(scope="module")
def walks():
    """Six lives in gridnavi, moving up and right at random for three trials of 60 steps."""
    return lived(in_trials(gridnavi()).split.train, 180, lambda key: jax.random.randint(key, (), 1, 3, jnp.int32), lives=6)


def test_gridnavi_starts_every_fifteen_steps_and_shows_the_last_cell(walks):
    _, seen = walks
    assert seen.obs.shape == (6, 180, 27)
    starts = np.arange(0, 180, 15)
    np.testing.assert_array_equal(np.argwhere(seen.obs[..., -2])[:, 1].reshape(6, -1), np.broadcast_to(starts, (6, 12)))
    assert (seen.obs[:, starts, 0] == 1).all()  # on (0, 0)
    np.testing.assert_array_equal(np.argwhere(seen.terminated)[:, 1].reshape(6, -1), [[59, 119, 179]] * 6)
    assert not seen.next_obs[:, [59, 119, 179], 0].any()  # where such a walk never returns


def test_the_task_is_one_in_all_episodes_and_trials(walks):
    task, seen = walks
    inside = seen.next_obs[..., -2] == 0  # where the successor is not the next episode's start
    on_goal = np.take_along_axis(seen.next_obs, (task.goal @ [5, 1])[:, None, None], 2)[..., 0] == 1
    np.testing.assert_array_equal((seen.reward == 1.0)[inside], on_goal[inside])
    assert on_goal.any()


def test_the_world_rests_when_all_episodes_are_over():
    """A pole that is pushed to one side falls long before 100 steps."""
    _, seen = lived(trial(cartpole(cap=100).split.train, 2, 100), 200, lambda key: jnp.int32(1))
    obs, successor, reward = seen.obs[0], seen.next_obs[0], seen.reward[0]
    first = np.flatnonzero(reward == 0)[0]
    assert not reward[first:].any()
    np.testing.assert_array_equal(obs[first:, :4], np.broadcast_to(successor[first - 1, :4], (200 - first, 4)))
    np.testing.assert_array_equal(successor[first:, :4], obs[first:, :4])
    assert np.abs(obs[first, [0, 2]]).max() > 0.99  # the scaled position or angle at which it fell, no fresh start
    assert not obs[first:, -2].any()


def test_an_episode_that_would_go_on_is_cut_at_the_horizon():
    """GridNavi's own episodes have 15 steps and begin in one cell; a trial of episodes of 7 begins there every 7."""
    _, seen = lived(trial(gridnavi().split.train, 3, 7), 42, lambda key: jnp.int32(1))
    np.testing.assert_array_equal(np.flatnonzero(seen.obs[0, :, -2]), [0, 7, 14, 21, 28, 35])
    starts = seen.obs[0, ::7, :-2]
    np.testing.assert_array_equal(starts, np.broadcast_to(starts[0], starts.shape))
    assert (seen.obs[0, 6, :-2] != starts[0]).any()
    np.testing.assert_array_equal(np.flatnonzero(seen.terminated[0]), [20, 41])
    first = jax.tree.map(lambda leaf: leaf[0, :21], seen)
    np.testing.assert_allclose(episode_returns(first, 3), first.reward.reshape(3, 7).sum(1), rtol=1e-5)


# --- episodes of one length


def test_an_absorbed_episode_rests_where_it_ended():
    """A pole that is pushed to one side falls within 30 steps."""
    _, seen = lived(absorb(cartpole(cap=100).split.train, 30), 90, lambda key: jnp.int32(1))
    for obs, successor, reward in zip(*(np.split(leaf[0], 3) for leaf in (seen.obs, seen.next_obs, seen.reward)), strict=True):
        fell = np.flatnonzero(reward == 0)[0]
        assert reward[:fell].all()
        assert not reward[fell:].any()
        np.testing.assert_array_equal(successor[:-1], obs[1:])
        np.testing.assert_array_equal(successor[fell:], np.broadcast_to(obs[fell], (30 - fell, 4)))
        assert np.abs(obs[0]).max() < 0.5 < 0.99 < np.abs(obs[fell, [0, 2]]).max()  # a fresh start, and the fall
    np.testing.assert_array_equal(np.flatnonzero(seen.terminated[0]), [29, 59, 89])
    assert not seen.truncated.any()


@pytest.mark.parametrize("horizon", [15, 7])
def test_an_episode_that_would_go_on_is_absorbed_as_it_is(horizon):
    base = gridnavi().split.train
    (_, plain), (_, seen) = (lived(side, 30, lambda key: jnp.int32(1)) for side in (base, absorb(base, horizon)))
    for got, expected in zip((seen.obs, seen.next_obs, seen.reward), (plain.obs, plain.next_obs, plain.reward), strict=True):
        np.testing.assert_array_equal(got[0, :horizon], expected[0, :horizon])
    np.testing.assert_array_equal(seen.obs[0, horizon], seen.obs[0, 0])
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated[0]), np.arange(horizon - 1, 30, horizon))
    assert not seen.terminated.any()


def test_an_absorbed_episode_that_the_environment_truncates_is_truncated():
    _, seen = lived(absorb(navigation().split.train, 25), 50, lambda key: jnp.int32(1))
    np.testing.assert_array_equal(np.flatnonzero(seen.truncated[0]), [24, 49])
    assert not seen.terminated.any()
    assert (seen.reward[0, :20] < 0).all()
    assert (seen.reward[0, 20:25] == 0).all()


def test_episodes_in_trials_begin_every_horizon():
    family = in_trials(cartpole(cap=30))
    _, seen = lived(family.split.train, 60, lambda key: jnp.int32(1))
    np.testing.assert_array_equal(np.flatnonzero(seen.obs[0, :, -2]), [0, 30])
    assert not seen.reward[0, 29]


# --- the returns of a trial's episodes


def test_episode_returns_are_sums_between_start_flags():
    flags, rewards = jnp.array([1.0, 0, 0, 1, 1, 0, 0]), jnp.arange(1.0, 8.0)
    obs = jnp.stack([jnp.ones(7), flags, jnp.arange(7) / 7], 1)
    nothing = jnp.zeros(7, bool)
    seen = Transition(obs, nothing, rewards, obs, nothing, nothing)
    np.testing.assert_array_equal(episode_returns(seen, 4), [6.0, 4.0, 18.0, 0.0])
    segments = jax.tree.map(lambda leaf: leaf[:, None, None], seen)
    np.testing.assert_array_equal(jax.jit(lambda seen: episode_returns(seen, 3))(segments), [6.0, 4.0, 18.0])
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf], 1), seen)
    with pytest.raises(Misuse, match=r"shape \[steps\] or \[K, T, 1\], got \[7, 2\]"):
        episode_returns(two, 3)


def test_episode_returns_of_a_trial_are_those_of_its_episodes(walks):
    trials = jax.tree.map(lambda leaf: leaf[:, :60], walks[1])
    returns = jax.jit(jax.vmap(lambda seen: episode_returns(seen, 4)))(trials)
    np.testing.assert_allclose(returns, trials.reward.reshape(6, 4, 15).sum(2), rtol=1e-5, atol=1e-5)


# --- families, and what is refused


def test_a_family_in_trials_has_its_trial_recipe_and_an_episodes_horizon():
    plain = gridnavi()
    family = in_trials(plain)
    assert family.recipe is plain.trial
    assert (family.horizon, family.recipe.span) == (15, Span(60, 1, 1))
    assert [side.spec.observation.shape for side in family.split] == [(27,), (27,)]


@pytest.mark.parametrize("segments", [50, 7])
def test_a_trial_must_be_a_whole_number_of_episodes(segments):
    family = gridnavi()
    recipe = dataclasses.replace(family.trial, span=Span(segments, 1, 1))
    with pytest.raises(Misuse, match=f"episodes of 15 steps, got {segments} segments; change trial.span.segments"):
        in_trials(family._replace(trial=recipe))


def test_a_family_without_a_trial_recipe_is_refused():
    family = navigation()._replace(trial=None)
    with pytest.raises(Misuse, match="got None; set its field `trial`"):
        in_trials(family)


def test_a_horizon_to_absorb_until():
    with pytest.raises(Misuse, match="horizon must be a whole number of at least 1, got 0"):
        absorb(gridnavi().split.train, 0)


@pytest.mark.parametrize("sizes", [(0, 15), (4, 0), (2.0, 15)])
def test_sizes_of_a_trial(sizes):
    with pytest.raises(Misuse, match="must be a whole number of at least 1"):
        trial(gridnavi().split.train, *sizes)
