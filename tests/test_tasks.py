"""Task distributions: splits that cannot overlap, wrappers, and gymnax environments whose task survives a reset."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.classic_control import cartpole

from metadqn_jax import actions
from metadqn_jax.actions import discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.environments.navigation import DIRECTIONS, Navigation
from metadqn_jax.environments.navigation_2d import Navigation2D
from metadqn_jax.environments.tabular import Tabular
from metadqn_jax.loops import repeat
from metadqn_jax.programs import make_parts
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.dark_room import key_to_door
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.gridnavi import gridnavi
from metadqn_jax.tasks.navigation_2d import navigation_2d
from metadqn_jax.tasks.semicircle import semicircle
from metadqn_jax.tasks.splits import fingerprint, finite, reserve, separate, split, withhold
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.tasks.trials import trial
from metadqn_jax.tasks.vary import vary_uniform
from metadqn_jax.tasks.wrappers import observe_task, observe_time, scale_observation

COUNT = 2_000
PUSHES = discrete(9)._replace(decode=lambda action: 0.1 * DIRECTIONS[action])  # for a continuous action space


def random_goal(key, params):
    return params.replace(goal=jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0))


def same(key, params):
    return params


@pytest.fixture(scope="module")
def plane():
    """Navigation with any goal of the square, not split."""
    return from_gymnax(Navigation(), random_goal)


def goals_of(seed, distribution, count=COUNT):
    """Goals [count, 2] of sampled tasks."""
    return np.asarray(jax.jit(lambda key: sample_tasks(key, distribution, count).goal)(jax.random.key(seed)))


def grid(plane, goals):
    """Tasks with these goals [n, 2]."""
    base = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(goals)), Navigation().default_params.replace(goal=jnp.zeros(2)))
    base = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), base, jax.eval_shape(plane.sample, jax.random.key(0)))
    return base.replace(goal=jnp.asarray(goals, jnp.float32))


def rows(goals):
    return set(map(tuple, goals.tolist()))


# --- splits


def test_the_two_sides_of_a_split_share_no_task(plane):
    sides = split(plane)
    train, test = goals_of(0, sides.train), goals_of(1, sides.test)
    assert not rows(train) & rows(test)
    assert len(rows(train)) == len(rows(test)) == COUNT
    for goals in (train, test):  # and each has the distribution of the whole
        np.testing.assert_allclose(goals.mean(0), 0, atol=4.5 * 3**-0.5 / np.sqrt(COUNT))
        np.testing.assert_allclose((goals**2).mean(0), 1 / 3, atol=4.5 * (4 / 45) ** 0.5 / np.sqrt(COUNT))


@pytest.mark.parametrize(("cells", "share"), [(21, 0.3), (400, 0.2)])
def test_a_finite_family_is_divided_without_a_rest(plane, cells, share):
    every = np.random.default_rng(cells).uniform(-1, 1, (cells, 2)).astype(np.float32)
    sides = split(finite(plane, grid(plane, every)), share)
    train, test = (rows(goals_of(seed, side, 5 * COUNT)) for seed, side in enumerate(sides))
    assert not train & test
    assert train | test == rows(every)
    assert abs(len(test) / cells - share) < 4.5 * np.sqrt(share * (1 - share) / cells)


def test_a_split_that_leaves_a_side_empty_is_refused(plane):
    with pytest.raises(Misuse, match=r"leaves no (test|train) task among 1,024 draws; let more of the task vary, .*`again`\.$"):
        split(finite(plane, grid(plane, [(0.5, 0.5)])))
    with pytest.raises(Misuse, match="test_share must be"):
        split(plane, 0.0)


def test_separate_sets_may_not_overlap(plane):
    first, second = grid(plane, [(0.1, 0.2), (0.3, 0.4)]), grid(plane, [(0.3, 0.4), (0.5, 0.6), (0.7, 0.8)])
    with pytest.raises(Misuse, match=r"share no task, got 1 in common; remove these from one side\.$"):
        separate(plane, first, second)
    sides = separate(plane, first, jax.tree.map(lambda leaf: leaf[1:], second))
    assert rows(goals_of(2, sides.train, 50)) == rows(np.float32([(0.1, 0.2), (0.3, 0.4)]))
    assert rows(goals_of(3, sides.test, 50)) == rows(np.float32([(0.5, 0.6), (0.7, 0.8)]))
    with pytest.raises(Misuse, match="must have at least one task, got an empty set"):
        separate(plane, first, jax.tree.map(lambda leaf: leaf[:0], second))


def test_what_is_reserved_for_testing_is_never_drawn_for_training(plane):
    every = grid(plane, [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.7, 0.8)])
    kept = jax.tree.map(lambda leaf: leaf[1:3], every)
    sides = reserve(finite(plane, every), kept)
    assert rows(goals_of(2, sides.train, 100)) == rows(np.float32([(0.1, 0.2), (0.7, 0.8)]))
    assert rows(goals_of(3, sides.test, 100)) == rows(np.float32([(0.3, 0.4), (0.5, 0.6)]))
    with pytest.raises(Misuse, match=r"the 4 tasks that are for testing alone must leave some .*; keep fewer of them\.$"):
        reserve(finite(plane, every), every)


def test_what_is_withheld_is_the_same_each_time(plane):
    every = grid(plane, np.random.default_rng(0).uniform(-1, 1, (12, 2)))
    first, second = (withhold(plane, every, 5) for _ in range(2))
    train, test = (rows(goals_of(4, side, 300)) for side in first)
    assert (len(train), len(test), len(train | test)) == (7, 5, 12)
    assert test == rows(goals_of(5, second.test, 300))
    with pytest.raises(Misuse, match=r"held_out must leave a task to train on, got 12 of 12; lower it\.$"):
        withhold(plane, every, 12)


def test_a_side_is_split_again_by_another_hash(plane):
    train, _ = split(finite(plane, grid(plane, np.random.default_rng(0).uniform(-1, 1, (400, 2)))))
    whole = rows(goals_of(0, train, 5 * COUNT))
    with pytest.raises(Misuse, match="leaves no test task"):
        split(train)
    fitted, validation = (rows(goals_of(seed, side, 5 * COUNT)) for seed, side in enumerate(split(train, again=1)))
    assert not fitted & validation
    assert fitted | validation == whole
    assert abs(len(validation) / len(whole) - 0.2) < 4.5 * np.sqrt(0.2 * 0.8 / len(whole))


SETS = {
    "another dtype": lambda tasks: tasks.replace(goal=jnp.zeros((3, 2), jnp.int32)),
    "a part of the task": lambda tasks: tasks.goal,
    "one field alone with tasks": lambda tasks: jax.tree.map(lambda leaf: leaf[0], tasks).replace(goal=tasks.goal),
    "one task": lambda tasks: jax.tree.map(lambda leaf: leaf[0], tasks),
    "two lengths": lambda tasks: tasks.replace(goal=tasks.goal[:2]),
}


@pytest.mark.parametrize("spoil", SETS.values(), ids=SETS)
def test_what_is_no_set_of_the_distributions_tasks_is_refused(plane, spoil):
    good = grid(plane, [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)])
    for take in (finite, reserve, lambda d, tasks: withhold(d, tasks, 1), lambda d, tasks: separate(d, tasks, good)):
        with pytest.raises(Misuse, match=r"a set of tasks.*; give all that the distribution's sample returns"):
            take(plane, spoil(good))


def test_a_set_of_tasks_may_be_of_numpy(plane):
    every = np.random.default_rng(0).uniform(-1, 1, (5, 2)).astype(np.float32)
    drawn = goals_of(0, finite(plane, jax.tree.map(np.asarray, grid(plane, every))), 100)
    assert rows(drawn) <= rows(every)


def test_finite_draws_uniformly(plane):
    every = np.arange(14, dtype=np.float32).reshape(7, 2)
    drawn = goals_of(4, finite(plane, grid(plane, every)))
    counts = np.bincount((drawn[:, 0] / 2).astype(int), minlength=7)
    assert (np.abs(counts - COUNT / 7) < 4.5 * np.sqrt(COUNT / 7 * 6 / 7)).all(), counts


def test_what_gymnax_derives_follows_what_a_user_varies():
    def heavier(key, params):
        return params.replace(masscart=jax.random.uniform(key, minval=1.0, maxval=9.0))

    task = from_gymnax("CartPole-v1", heavier).sample(jax.random.key(0))
    np.testing.assert_allclose(task.total_mass, task.masscart + task.masspole, rtol=1e-6)
    assert task.masscart > 1.0


@struct.dataclass
class MorePoleParams(cartpole.EnvParams):
    wind: float = 0.0


class WindyPole(cartpole.CartPole):
    @property
    def default_params(self):
        return MorePoleParams()


def test_what_gymnax_derives_is_known_where_a_user_adds_a_field():
    task = from_gymnax(WindyPole(), vary_uniform({"masspole": (1.0, 1.0), "wind": (0.5, 0.5)})).sample(jax.random.key(0))
    np.testing.assert_allclose([task.total_mass, task.polemass_length, task.wind], [2.0, 0.5, 0.5])
    with pytest.raises(Misuse, match="derives it from masscart and masspole"):
        from_gymnax(WindyPole(), vary_uniform({"total_mass": (1.0, 2.0)}))


# --- fingerprint

fingerprints = jax.jit(jax.vmap(fingerprint))


def test_different_tasks_have_different_fingerprints():
    numbers = np.random.default_rng(0).normal(size=(COUNT, 3)).astype(np.float32)
    tasks = {"reward": numbers[:, :1], "goal": numbers[:, 1:], "count": np.zeros(COUNT, np.int32)}
    swapped = {"reward": numbers[:, 1:2], "goal": numbers[:, [0, 2]], "count": np.zeros(COUNT, np.int32)}
    mirrored = {**tasks, "goal": numbers[:, [2, 1]]}
    negated = {**tasks, "goal": -numbers[:, 1:]}
    counted = {**tasks, "count": np.arange(1, COUNT + 1, dtype=np.int32)}
    prints = np.stack([fingerprints(one) for one in (tasks, swapped, mirrored, negated, counted)])
    assert prints.dtype == np.uint32
    assert len(np.unique(prints)) > prints.size - 4  # 0.01 pairs are expected to collide
    few = {name: leaf[:8] for name, leaf in tasks.items()}
    bits = np.unpackbits(prints[0].view(np.uint8).reshape(COUNT, 4), axis=1).mean(0)
    np.testing.assert_allclose(bits, 0.5, atol=4.5 * 0.5 / np.sqrt(COUNT))  # every bit is a fair coin
    eager = [int(fingerprint({name: leaf[i] for name, leaf in few.items()})) for i in range(8)]
    jitted = [int(jax.jit(fingerprint)({name: leaf[i] for name, leaf in few.items()})) for i in range(8)]
    assert eager == jitted == list(prints[0, :8])  # eagerly, jitted and mapped


def test_equal_numbers_have_equal_fingerprints():
    zero, minus = {"goal": jnp.array([0.0, 1.0])}, {"goal": jnp.array([-0.0, 1.0])}
    assert int(fingerprint(zero)) == int(fingerprint(minus)) == int(jax.jit(fingerprint)(minus))
    assert int(fingerprint(zero)) == int(fingerprint({"goal": np.float32([0.0, 1.0])}))


def test_random_keys_have_fingerprints():
    prints = [int(fingerprint({"seed": jax.random.key(seed)})) for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def fused(key, params):
    """Tasks whose last arithmetic XLA may repeat with other roundings where it fuses it with the hash."""
    key_transition, key_reward = jax.random.split(key)
    weights = jax.random.exponential(key_transition, (4, 3, 4))
    reward = 1.0 + 0.3 * jax.random.normal(key_reward, (4, 3))
    return params.replace(transition=weights / weights.sum(-1, keepdims=True), reward=reward)


def test_tasks_are_on_the_same_side_inside_the_program_that_draws_them_and_outside():
    sides, border = split(from_gymnax(Tabular(4, 3), fused), 0.3), np.uint32(0.3 * 2**32)
    for side, of_test in ((sides.train, False), (sides.test, True)):
        tasks = jax.jit(lambda key, side=side: sample_tasks(key, side, COUNT))(jax.random.key(5))
        np.testing.assert_array_equal(fingerprints(tasks) < border, of_test)


# --- wrappers


def wander(seed, distribution, steps=45, tasks=3):
    """Random actions: tasks, first obs [tasks, …], actions and Step [tasks, steps, …], worlds before and after."""

    def one(key):
        key_task, key_reset, key_steps = jax.random.split(key, 3)
        task = distribution.sample(key_task)
        world, obs = distribution.reset(key_reset, task)

        def step(key, t, world):
            key_action, key_step = jax.random.split(key)
            action = distribution.spec.head.sample(key_action)
            after, seen = distribution.step(key_step, task, world, distribution.spec.head.decode(action))
            return after, (action, seen, world, after)

        return task, obs, *repeat(key_steps, steps, step, world)[1]

    keys = jax.random.split(jax.random.key(seed), tasks)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def test_wrappers_change_observations_wherever_they_appear(plane):
    task, first, _, seen, *_ = wander(6, plane)
    scaled = scale_observation(plane, (2.0, -0.5))
    told = observe_task(scaled, lambda task: task.goal)
    assert told.spec.observation.shape == (4,)
    _, told_first, _, told_seen, *_ = wander(6, told)  # the same keys, so the same lives
    for plain, changed in (
        (first, told_first),
        (seen.obs, told_seen.obs),
        (seen.transition_obs, told_seen.transition_obs),
    ):
        np.testing.assert_allclose(changed[..., :2], plain * np.float32([2.0, -0.5]), rtol=1e-6)
        goal = task.goal if plain.ndim == 2 else task.goal[:, None]
        np.testing.assert_array_equal(changed[..., 2:], np.broadcast_to(goal, plain.shape))
    np.testing.assert_array_equal(told_seen.reward, seen.reward)
    np.testing.assert_array_equal(told_seen.truncated, seen.truncated)
    assert scaled.spec.observation == plane.spec.observation


def test_the_time_of_an_episode_is_observed_and_starts_anew_with_it(plane):
    _, first, _, seen, *_ = wander(6, plane)
    timed = observe_time(plane, horizon=20)
    assert timed.spec.observation.shape == (3,)
    _, timed_first, _, timed_seen, *_ = wander(6, timed)  # the same keys, so the same lives
    t = np.arange(45)
    for plain, changed, time in (
        (first, timed_first, 0),
        (seen.obs, timed_seen.obs, (t + 1) % 20),
        (seen.transition_obs, timed_seen.transition_obs, t % 20 + 1),
    ):
        np.testing.assert_array_equal(changed[..., :2], plain)
        np.testing.assert_allclose(changed[..., 2], np.broadcast_to(time / np.float32(20), plain.shape[:-1]))
    with pytest.raises(Misuse, match="horizon must be a whole number of at least 1"):
        observe_time(plane, 0)
    assert trial(timed, 2, 20).spec.observation.shape == (5,)


def test_the_time_starts_anew_where_an_episode_terminates():
    env = Navigation2D()
    soon = dataclasses.replace(env.default_params, near=5.0)  # at once
    ending = from_gymnax(env, same, params=soon, head=actions.grid([-0.1] * 2, [0.1] * 2, 3))
    _, _, _, seen, *_ = wander(7, observe_time(ending, 4), steps=3)
    assert seen.terminated.all()
    np.testing.assert_array_equal(seen.obs[..., 2], np.zeros((3, 3)))
    np.testing.assert_array_equal(seen.transition_obs[..., 2], np.full((3, 3), 0.25))


# --- from_gymnax


class HalfBounded(Navigation2D):
    """Velocities that are bounded below alone."""

    def action_space(self, params=None):
        return spaces.Box(0.0, np.inf, (2,), jnp.float32)


@pytest.mark.parametrize(
    ("env", "vary", "options", "sentence"),
    [
        ("NoSuch-v0", same, {}, "unknown gymnax environment 'NoSuch-v0'"),
        (
            "CartPole-v1",
            lambda key, p: p.replace(max_steps_in_episode=0.5),
            {},
            r"max_steps_in_episode must stay int32",
        ),
        (
            "CartPole-v1",
            lambda key, p: p.replace(gravity=jnp.ones(2)),
            {},
            r"gravity must stay float32\[\], got float32\[2\]",
        ),
        ("CartPole-v1", lambda key, p: {"gravity": p.gravity}, {}, "must keep its structure"),
        ("CartPole-v1", same, {"keep": ("goal",)}, "has no field 'goal'"),
        ("CartPole-v1", {"gravity": (9.0, 10.0)}, {}, r"vary must be a function of \(key, params\), got .* with vary_uniform"),
        (HalfBounded(), same, {"head": actions.factored([-5.0] * 2, [5.0] * 2, 3)}, "got some between -5.0 and 5.0; take"),
        (Navigation, same, {}, "env must be a gymnax id or Environment, got <class"),
        ("Pendulum-v1", same, {"head": actions.factored([-50.0], [50.0], 3)}, "got some between -50.0 and 50.0; take a head"),
        ("PointRobot-misc", same, {"head": PUSHES}, "draws goal at reset"),
        (
            "PointRobot-misc",
            same,
            {"keep": ("goal",), "head": actions.discrete(4)},
            r"actions float32\[2\], got int32\[\]; take a head",
        ),
        ("CartPole-v1", same, {"head": actions.factored([0.0], [1.0], 3)}, r"actions int32\[\], got float32\[1\]; take a head"),
        ("CartPole-v1", same, {"head": actions.discrete(3)}, "2 actions, got 3; take a head"),
        ("BernoulliBandit-misc", same, {}, "draws reward_probs at reset"),
    ],
)
def test_from_gymnax_refuses_in_one_sentence(env, vary, options, sentence):
    with pytest.raises(Misuse, match=sentence) as raised:
        from_gymnax(env, vary, **options)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize("env", [Navigation(), Tabular(4, 3)], ids=["navigation", "tabular"])
def test_a_step_is_gymnax_own_step(env):
    """The same keys give the same step; only the reset after an episode is drawn with other bits."""
    distribution = from_gymnax(env, same)
    task = jax.jit(distribution.sample)(jax.random.key(7))
    ours, theirs = jax.jit(distribution.step), jax.jit(env.step)
    world, _ = jax.jit(distribution.reset)(jax.random.key(8), task)
    keys, endings = jax.random.split(jax.random.key(9), 25), 0
    for t, (key, twin) in enumerate(zip(keys, jax.random.clone(keys), strict=True)):
        action = jnp.int32(t % 3)
        obs, _, reward, terminated, truncated, info = theirs(twin, world, action, task)
        world, seen = ours(key, task, world, action)
        np.testing.assert_array_equal(seen.transition_obs, info["final_observation"])
        assert (seen.reward, seen.terminated, seen.truncated) == (reward, terminated, truncated)
        if not truncated:
            np.testing.assert_array_equal(seen.obs, obs)
            np.testing.assert_array_equal(seen.obs, seen.transition_obs)
        endings += int(truncated)
    assert endings == 25 // int(task.max_steps_in_episode)


def test_at_an_end_the_stream_goes_on_from_a_reset_and_the_true_successor_is_kept(plane):
    _, first, action, seen, before, after = wander(10, plane)
    ended = seen.truncated
    assert ended.sum(1).tolist() == [2, 2, 2]
    moved = np.clip(before.position + 0.15 * np.asarray(DIRECTIONS)[action], -1.5, 1.5)
    np.testing.assert_allclose(seen.transition_obs, moved, atol=1e-6)
    np.testing.assert_array_equal(seen.obs, after.position)
    np.testing.assert_array_equal(seen.obs[~ended], seen.transition_obs[~ended])
    assert np.abs(first).max() <= 0.05
    assert np.abs(seen.obs[ended]).max() <= 0.05
    assert (after.time[ended] == 0).all()
    assert len(np.unique(seen.obs[ended][:, 0])) == ended.sum()


def test_a_kept_goal_survives_many_resets_and_differs_between_tasks():
    import gymnax

    env, default = gymnax.make("PointRobot-misc")
    short = default.replace(max_steps_in_episode=3, dense_reward=True)
    distribution = from_gymnax(env, same, params=short, keep="goal", head=PUSHES)
    (_, kept), _, _, seen, before, after = wander(11, distribution, tasks=5)
    assert seen.truncated.sum() == 5 * 15
    assert len(rows(kept["goal"])) == 5
    for worlds in (before, after):
        np.testing.assert_array_equal(worlds.goal, np.broadcast_to(kept["goal"][:, None], worlds.goal.shape))
    distance = np.linalg.norm(before.pos - kept["goal"][:, None], axis=-1)
    np.testing.assert_allclose(seen.reward, -distance, atol=1e-6)  # and it is the goal that pays
    starts = after.pos[seen.truncated]
    assert len(rows(starts)) == len(starts)  # the start is drawn anew


@pytest.mark.parametrize("build", [lambda: tabular(horizon=7), lambda: key_to_door(horizon=30), lambda: semicircle("borel")])
def test_segments_hold_whole_episodes_at_any_horizon(build):
    family = build()
    assert family.recipe.span.steps == family.horizon


@pytest.mark.parametrize("build", [navigation_2d, semicircle])
def test_sets_of_goals_are_tasks_in_float64_too(build):
    with jax.enable_x64(True):
        assert build().split.test.sample(jax.random.key(0)).goal.dtype == jnp.float64


def test_a_discount_of_one_cannot_rise():
    tasks, recipe = tabular(2, 2, 3, episodes=2).split.train, gridnavi().trial
    with pytest.raises(Misuse, match=r"a discount that rises must be a finite number between 0 and 0.9999, got 1.0; [^\n]*\.$"):
        make_parts(tasks, dataclasses.replace(recipe, discount=1.0))


def test_redraw_lets_what_is_no_task_be_drawn_anew():
    import gymnax

    env, default = gymnax.make("PointRobot-misc")
    distribution = from_gymnax(env, same, params=default.replace(max_steps_in_episode=3), redraw=("goal",), head=PUSHES)
    *_, seen, _, after = wander(12, distribution, steps=9, tasks=2)
    assert len(rows(after.goal[seen.truncated])) == 6
