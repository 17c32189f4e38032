"""XLand-MiniGrid step by step against the package xminigrid; its rulesets, sides and expert against search in plain Python."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.xland import TILES, XLand
from metadqn_jax.environments.xland_rulesets import BESIDE, GOALS, HOLD, KINDS, NEAR, RULES, held_out, make_rulesets
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.xland import xland

pytest.importorskip("xminigrid")
from xminigrid.core import goals, rules
from xminigrid.envs.xland import XLandMiniGrid
from xminigrid.types import RuleSet

HORIZON, VIEW, STREAMS, STEPS = 30, 3, 96, 40
SIZE = 6  # of rooms with 4 × 4 cells


@pytest.fixture(scope="module")
def family():
    """Chains of two rules, and no distractor."""
    return xland(rules=2, distractors=0, size=SIZE, view=VIEW, horizon=HORIZON, count=4000)


@pytest.fixture(scope="module")
def tasks(family):
    """Tasks of the test side."""
    return jax.jit(lambda key: sample_tasks(key, family.split.test, STREAMS))(jax.random.key(0))


def lived_in_xminigrid(task, first, rest, actions):
    """(first observation, (observation, successor, its pocket, reward, terminated, truncated) [T]), from the house's keys."""
    env = XLandMiniGrid()
    ruleset = RuleSet(goal=task.goal, rules=task.rules, init_tiles=task.objects)
    params = env.default_params(height=SIZE, width=SIZE, view_size=VIEW, grid_type="R1", max_steps=HORIZON, ruleset=ruleset)

    def begin(key):
        timestep = env.reset(params, jax.random.split(key)[0])
        return timestep.replace(state=timestep.state.replace(key=None, step_num=jnp.int32(0)))

    def step(key, t, timestep):
        after, fresh = env.step(params, timestep, actions[t]), begin(jax.random.split(key)[1])
        ended = after.step_type == 2
        now = jax.tree.map(lambda new, old: jnp.where(ended, new, old).astype(jnp.asarray(new).dtype), fresh, after)
        flags = after.discount == 0, after.state.step_num == HORIZON
        return now, (now.observation, after.observation, after.state.agent.pocket, after.reward, *flags)

    start = jax.tree.map(jnp.asarray, begin(first))
    return start.observation, repeat(rest, STEPS, step, start)[1]


def test_every_step_equals_that_of_xminigrid(family, tasks):
    side = family.split.test
    actions = jnp.asarray(np.random.default_rng(0).integers(0, 6, (STREAMS, STEPS)), jnp.int32)

    @jax.jit
    @jax.vmap
    def both(task, seed, actions):
        def keys():
            return jax.random.key(seed), jax.random.key(seed + STREAMS)

        first, rest = keys()
        world, obs = side.reset(first, task)
        ours = repeat(rest, STEPS, lambda key, t, world: side.step(key, task, world, actions[t]), world)[1]
        return (obs, ours), lived_in_xminigrid(task, *keys(), actions)

    (first, ours), (obs, native) = jax.tree.map(np.asarray, both(tasks, jnp.arange(STREAMS), actions))
    now, after, pocket, reward, terminated, truncated = native
    assert first.dtype == np.float32
    own = np.zeros((VIEW, VIEW), bool)
    own[-1, VIEW // 2] = True
    for shown, seen in ((first, obs), (ours.obs, now), (ours.transition_obs, after)):
        decoded = np.stack([shown[..., :TILES].argmax(-1), shown[..., TILES:].argmax(-1)], -1)
        np.testing.assert_array_equal(decoded[..., ~own, :], seen[..., ~own, :])
        np.testing.assert_array_equal(shown.sum(-1), 2)
        assert (seen[..., own, :] == [1, 7]).all()  # black floor, whoever stands on it
    np.testing.assert_array_equal(ours.transition_obs[..., -1, VIEW // 2, :TILES].argmax(-1), pocket[..., 0])
    np.testing.assert_array_equal(ours.transition_obs[..., -1, VIEW // 2, TILES:].argmax(-1), pocket[..., 1])
    np.testing.assert_allclose(ours.reward, reward, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(ours.terminated, terminated)
    np.testing.assert_array_equal(ours.truncated, truncated)
    assert terminated.any()
    assert truncated.any()
    assert (pocket[..., 0] > 0).any()
    assert ((reward > 0) == terminated).all()


def test_spaces_describe_the_environment():
    env = XLand(SIZE, VIEW)
    obs, _ = jax.eval_shape(env.reset_env, jax.random.key(5), env.default_params)
    space = env.observation_space(env.default_params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    assert env.action_space().n == env.num_actions == 6


# --- the expert, and search in plain Python

FORWARD, RIGHT, LEFT, PICK, PUT = range(5)
WAYS = ((-1, 0), (0, 1), (1, 0), (0, -1))


def around(place):
    return [(place[0] + y, place[1] + x) for y, x in WAYS]


def moved(state, action, size):
    """(place, way, pocket, {place: object}) after an action, and the place that it was about."""
    place, way, pocket, room = state
    ahead = around(place)[way]
    inside = all(0 < one < size - 1 for one in ahead)
    if action in (RIGHT, LEFT):
        return (place, (way + (1 if action == RIGHT else -1)) % 4, pocket, room), place
    if action == FORWARD:
        place = ahead if inside and ahead not in room else place
        return (place, way, pocket, room), place
    if action == PICK and ahead in room and pocket is None:
        return (place, way, room[ahead], {one: what for one, what in room.items() if one != ahead}), ahead
    if action == PUT and inside and ahead not in room and pocket is not None:
        return (place, way, None, {**room, ahead: pocket}), ahead
    return state, ahead


def meets(kind, row, state, action, about):
    """Where the condition of a goal or a rule holds: the place of the object to change, "pocket", or None."""
    place, _, pocket, room = state
    one, other = tuple(row[:2]), tuple(row[2:4])
    if kind == HOLD:
        return "pocket" if action == PICK and pocket == one else None
    if kind == NEAR:
        return next((near for near in around(place) if action == FORWARD and room.get(near) == one), None)
    wanted = {one: other, other: one}.get(room.get(about))
    return next((near for near in around(about) if action == PUT and wanted and room.get(near) == wanted), None)


def step(task, state, action, size):
    """(state, whether the goal is reached)."""
    goal, some = task
    state, about = moved(state, action, size)
    for number, *row in some:
        kind = list(RULES).index(number)
        where, product = meets(kind, row, state, action, about), tuple(row[4:6] if kind == BESIDE else row[2:4])
        place, way, pocket, room = state
        if where == "pocket":
            state = place, way, product, room
        elif where is not None:
            rest = {one: what for one, what in room.items() if kind != BESIDE or one != about}
            state = place, way, pocket, {**rest, where: product}
    return state, meets(list(GOALS).index(goal[0]), goal[1:], state, action, about) is not None


def fewest_steps(task, state, size):
    """By breadth-first search."""

    def frozen(state):
        return *state[:3], frozenset(state[3].items())

    seen, queue = {frozen(state)}, collections.deque([(state, 0)])
    while True:
        state, taken = queue.popleft()
        for action in range(5):
            after, solved = step(task, state, action, size)
            if solved:
                return taken + 1
            if frozen(after) not in seen:
                seen.add(frozen(after))
                queue.append((after, taken + 1))


def first_state(family, task, key):
    """What `optimum` starts from with this key, as plain Python."""
    world, _ = family.split.test.reset(jax.random.split(key)[0], task)
    grid = np.asarray(world.grid)
    room = {(y, x): tuple(grid[y, x].tolist()) for y, x in np.argwhere(grid[..., 0] > 2).tolist()}
    return tuple(world.position.tolist()), int(world.direction), None, room


def test_an_expert_solves_every_ruleset_and_is_seldom_slower_than_search(family, tasks):
    keys = jax.random.split(jax.random.key(2), STREAMS)
    reached = np.asarray(jax.jit(jax.vmap(family.optimum))(jax.random.clone(keys), tasks))
    assert reached.min() > 0
    taken = (1 - reached) / 0.9 * HORIZON
    np.testing.assert_allclose(taken, np.round(taken), atol=1e-4)
    some, slower = np.flatnonzero(taken < 15)[:12], []
    for i in some:
        task = jax.tree.map(lambda leaf, i=i: leaf[i], tasks)
        plain = task.goal.tolist(), task.rules.tolist()
        slower.append(round(taken[i]) - fewest_steps(plain, first_state(family, task, keys[i]), SIZE))
    assert min(slower) >= 0
    assert np.median(slower) <= 1
    assert len(some) == 12


# --- rulesets and sides


@pytest.mark.parametrize(("kind", "goal", "rule"), [(HOLD, "AgentHold", 1), (NEAR, "AgentNear", 1), (BESIDE, "TileNear", 2)])
def test_goals_and_rules_are_encoded_as_by_xminigrid(kind, goal, rule):
    one, other, product = (jnp.array(tile, jnp.uint8) for tile in ([3, 1], [4, 2], [5, 3]))
    objects = {"tile": one} if kind != BESIDE else {"tile_a": one, "tile_b": other}
    ours = [*one.tolist(), *(other.tolist() if kind == BESIDE else ())]
    native = getattr(goals, f"{goal}Goal")(**objects).encode().tolist()
    assert native == [GOALS[kind], *ours, *[0] * 4][:5]
    native = getattr(rules, f"{goal}Rule")(**objects, prod_tile=product).encode().tolist()
    assert native == [RULES[kind], *ours, *product.tolist(), *[0] * 4][:7]


def objects_of(row, count):
    """The first `count` objects of a row of numbers, without the empty ones."""
    return [tuple(row[i : i + 2]) for i in range(0, 2 * count, 2) if row[i]]


@pytest.mark.parametrize(("rules", "distractors"), [(0, 0), (0, 3), (1, 2), (3, 1)])
def test_rulesets_are_distinct_and_need_every_rule_and_all_objects_but_the_distractors(rules, distractors):
    made = make_rulesets(300, rules, distractors)
    rows = {tuple(bytes(part[i]) for part in made) for i in range(len(made.goals))}
    assert len(rows) == len(made.goals) == (90 if rules + distractors == 0 else 300)
    for goal, some, objects in zip(*(part.tolist() for part in made), strict=True):
        have = [tuple(one) for one in objects if one[0]]
        assert len(set(have)) == len(have)
        waiting, wanted = [row for row in some if row[0]], objects_of(goal[1:], 2)
        assert len(waiting) == rules
        for _ in range(rules):  # whatever can be done next
            row = next(row for row in waiting if set(objects_of(row[1:], 1 + (row[0] == RULES[BESIDE]))) <= set(have))
            used = objects_of(row[1:], 1 + (row[0] == RULES[BESIDE]))
            have = [one for one in have if one not in used] + objects_of(row[1 + 2 * len(used) :], 1)
            waiting.remove(row)
        assert set(wanted) <= set(have)
        assert len(have) - len(wanted) == distractors
        assert objects == sorted(objects)  # one order, so that none is there twice
        assert some == sorted(some)
        assert wanted == sorted(wanted)


@pytest.mark.parametrize("goals", [("hold",), ("near", "beside")])
def test_goals_are_of_the_kinds_that_one_names(goals):
    made = make_rulesets(300, rules=0, goals=goals)
    assert set(made.goals[:, 0].tolist()) == {GOALS[KINDS[goal]] for goal in goals}


def test_rulesets_are_the_same_each_time_and_others_for_other_seeds():
    one, again, other = (make_rulesets(500, seed=seed) for seed in (0, 0, 1))
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def rows_of(rulesets, parts):
    return {tuple(bytes(part[i]) for part in rulesets[:parts]) for i in range(len(rulesets.goals))}


@pytest.mark.parametrize("seed", range(20))
def test_sides_share_no_ruleset_and_no_combination(seed):
    made, share = make_rulesets(2000, seed=seed), 0.2
    train, test = held_out(made, share, combinations=False)
    assert not rows_of(train, 3) & rows_of(test, 3)
    assert rows_of(train, 3) | rows_of(test, 3) == rows_of(made, 3)
    assert abs(len(test.goals) / 2000 - share) < 4.5 * np.sqrt(share * (1 - share) / 2000)
    assert rows_of(train, 2) & rows_of(test, 2)
    train, test = held_out(made, share, combinations=True)
    assert not rows_of(train, 2) & rows_of(test, 2)
    assert rows_of(test, 1) <= rows_of(train, 1)
    assert {bytes(rule) for rule in test.rules[:, 0]} <= {bytes(rule) for rule in train.rules[:, 0]}
    assert 0.5 * share < len(test.goals) / 2000 < 1.5 * share
    assert len(train.goals) + len(test.goals) < 2000  # some rule of test is not in train


def test_the_family_draws_from_its_sides(family, tasks):
    train = jax.jit(lambda key: sample_tasks(key, family.split.train, 2000))(jax.random.key(3))
    pairs = [
        {(bytes(goal), bytes(some)) for goal, some in zip(*map(np.asarray, (side.goal, side.rules)), strict=True)}
        for side in (train, tasks)
    ]
    assert not pairs[0] & pairs[1]
    assert len(pairs[0]) > 1000
    shown = np.asarray(jax.vmap(family.features)(tasks))
    assert set(np.unique(shown)) == {0, 1}
    assert len(np.unique(shown, axis=0)) == len(pairs[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: xland(rules=-1),
        lambda: xland(rules=5),
        lambda: xland(distractors=-1),
        lambda: xland(size=4),
        lambda: xland(size=6, rules=2, distractors=1),
        lambda: xland(view=4),
        lambda: xland(view=1),
        lambda: xland(horizon=0),
        lambda: xland(count=0),
        lambda: xland(share=1.5),
        lambda: xland(unseen="goals"),
        lambda: XLand(size=9.0),
    ],
)
def test_impossible_rooms_are_refused_in_one_sentence(make):
    with pytest.raises(Misuse, match=r"^[^\n]+; [^\n]*\.$"):
        make()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_side_without_tasks_is_refused(share):
    with pytest.raises(Misuse, match="on both sides"):
        xland(count=50, share=share)
