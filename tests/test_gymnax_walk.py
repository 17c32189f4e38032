"""Every gymnax environment by its id: which parameters can vary from task to task, which cannot, and why."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jax.interpreters import partial_eval

from metadqn_jax import trees
from metadqn_jax.actions import grid
from metadqn_jax.checks import Misuse
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.vary import DEAD, DERIVED, derive, places, uniform, vary_uniform

gymnax = pytest.importorskip("gymnax")

DRAWS = 4_000
pytestmark = pytest.mark.usefixtures("promotion")
OFFLINE = {"MNISTBandit-bsuite"}  # its constructor downloads the images
HIDDEN = {  # what an environment draws at its reset: a task to be kept, or a start to be drawn anew
    "Catch-bsuite": {"redraw": ("ball_x",)},
    "MemoryChain-bsuite": {"redraw": ("context",)},
    "UmbrellaChain-bsuite": {"redraw": ("need_umbrella",)},
    "SimpleBandit-bsuite": {"keep": ("rewards",)},
    "MetaMaze-misc": {"keep": ("goal",)},
    "PointRobot-misc": {"keep": ("goal",)},
    "BernoulliBandit-misc": {"keep": ("reward_probs",)},
    "GaussianBandit-misc": {"keep": ("mu",)},
    "Reacher-misc": {"keep": ("goal_xy",)},
    "Swimmer-misc": {"keep": ("goal_xy", "urchin_xys")},
}
IDS = sorted(set(gymnax.registered_envs) - OFFLINE)


@pytest.fixture(scope="module")
def promotion():
    """Swimmer promotes ranks by itself."""
    with jax.numpy_rank_promotion("allow"):
        yield


@functools.cache
def made(name):
    """The environment, its default parameters as arrays, and the head for its actions."""
    env, default = gymnax.make(name)
    space = env.action_space(default)
    box = None if hasattr(space, "n") else [np.broadcast_to(bound, space.shape) for bound in (space.low, space.high)]
    return env, trees.strengthen(jax.tree.map(jnp.asarray, default)), box and grid(*box, bins=2)


def home(name):
    return type(made(name)[1]).__module__.removeprefix("gymnax.environments.")


def fields_of(name):
    """(those that can vary, {those that cannot: why})."""
    refused = dict(DEAD.get(home(name), {})) | {
        field: " and ".join(of) for field, (of, _) in DERIVED.get(home(name), {}).items()
    }
    fields = [field.name for field in dataclasses.fields(made(name)[1])]
    return [field for field in fields if field not in refused], refused


def around(value):
    """A range about a default."""
    if value.dtype == jnp.bool_:
        return False, True
    low, high = float(value.min()), float(value.max())
    if jnp.issubdtype(value.dtype, jnp.integer):
        return max(1, int(low) - 1), int(high) + 1
    return low - 0.1 * abs(low), high + 0.1 * abs(high) + 0.1 * (high == 0)


def test_the_tables_name_environments_and_fields_that_exist():
    assert set(gymnax.registered_envs) >= OFFLINE
    assert set(HIDDEN) <= set(IDS)
    homes = {home(name): name for name in IDS}
    for table in (DEAD, DERIVED):
        for module, fields in table.items():
            assert set(fields) <= {field.name for field in dataclasses.fields(made(homes[module])[1])}


@pytest.mark.parametrize("name", IDS)
def test_all_that_can_vary_varies_in_its_own_dtype(name):
    env, default, head = made(name)
    free, _ = fields_of(name)
    ranges = {field: around(getattr(default, field)) for field in free}
    hidden = HIDDEN.get(name, {})
    if hidden:
        with pytest.raises(Misuse, match=r"draws .* at reset") as raised:
            from_gymnax(env, vary_uniform({}), params=default, head=head)
        found = re.search(r"draws (.*) at reset", str(raised.value)).group(1)
        assert tuple(found.split(", ")) == (*hidden.get("keep", ()), *hidden.get("redraw", ()))
    from_gymnax(env, vary_uniform(ranges), params=default, head=head, **hidden)
    drawn = jax.jit(jax.vmap(lambda key: vary_uniform(ranges)(key, default)))(jax.random.split(jax.random.key(0), 8))
    for field, (low, high) in ranges.items():
        values = np.asarray(getattr(drawn, field))
        assert values.dtype == getattr(default, field).dtype
        assert values.shape[1:] == getattr(default, field).shape
        assert (low <= values.min(), values.max() <= high) == (True, True), field
        assert len(np.unique(values)) > 1, field


@pytest.mark.parametrize("name", [name for name in IDS if home(name) in DEAD or home(name) in DERIVED])
def test_what_cannot_vary_is_refused_with_the_reason(name):
    env, default, head = made(name)
    for field, reason in fields_of(name)[1].items():
        with pytest.raises(Misuse) as raised:
            from_gymnax(env, vary_uniform({field: around(getattr(default, field))}), params=default, head=head)
        assert re.fullmatch(rf"{field} must .*{re.escape(reason)}.*; .*\.", str(raised.value))


# --- the tables against the programs


def read(name):
    """The fields of the parameters that an observation, a reward or a flag depends on, now or through later states."""
    env, default, head = made(name)

    def program(params, state, keys, action):
        first_obs, first = env.reset_env(keys[0], params)
        obs, after, reward, terminated, _ = env.step_env(keys[1], state, action, params)
        return (first_obs, obs, reward, terminated, env.is_truncated(after, params)), first, after

    keys = jax.random.split(jax.random.key(0), 3)
    _, state = env.reset_env(keys[2], default)
    state, space = trees.strengthen(jax.tree.map(jnp.asarray, state)), env.action_space(default)
    action = jnp.int32(0) if head is None else jnp.zeros(space.shape)
    traced = jax.make_jaxpr(program)(default, state, keys, action)
    states, parameters = len(jax.tree.leaves(state)), len(jax.tree.leaves(default))
    seen = len(traced.jaxpr.outvars) - 2 * states
    needed = [False] * states
    while True:
        _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * seen + 2 * needed)
        following = used[parameters : parameters + states]
        if following == needed:
            break
        needed = [a or b for a, b in zip(needed, following, strict=True)]
    names = [path[0].name for path, _ in jax.tree.leaves_with_path(default)]
    return {field for field, reads in zip(names, used[:parameters], strict=True) if reads}


@pytest.mark.parametrize("name", IDS)
def test_the_dead_fields_are_those_that_nothing_reads(name):
    every = {field.name for field in dataclasses.fields(made(name)[1])}
    unread = every - read(name)
    if home(name) == "classic_control.cartpole":
        assert unread == {"masscart"}  # which total_mass is derived from
        unread = set()
    assert unread == set(DEAD.get(home(name), {}))


@pytest.mark.parametrize(
    ("name", "silent", "heard"),
    [
        ("CartPole-v1", ["masscart"], ["total_mass", "polemass_length", "masspole", "force_mag"]),
        ("Acrobot-v1", ["link_length_2"], ["link_length_1", "link_com_pos_2"]),
        ("SimpleBandit-bsuite", ["optimal_return"], []),
    ],
)
def test_changing_a_dead_field_changes_no_transition(name, silent, heard):
    env, default, _ = made(name)

    @jax.jit
    @jax.vmap
    def live(params):
        key_reset, key_steps = jax.random.split(jax.random.key(1))
        first, state = env.reset(key_reset, params)

        def step(key, t, state):
            key_action, key_step = jax.random.split(key)
            action = env.action_space(default).sample(key_action)
            obs, after, reward, terminated, truncated, _ = env.step(key_step, state, action, params)
            after = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state)
            return after, (obs, reward, terminated, truncated)

        return first, repeat(key_steps, 40, step, trees.strengthen(state))[1]

    changed = [default] + [default.replace(**{field: altered(getattr(default, field))}) for field in (*silent, *heard)]
    lives = jax.tree.map(np.asarray, live(jax.tree.map(lambda *rows: jnp.stack(rows), *changed)))
    for i, field in enumerate((*silent, *heard), 1):
        same = all(np.array_equal(leaf[0], leaf[i]) for leaf in jax.tree.leaves(lives))
        assert same == (field in silent), field


def altered(value):
    return value // 3 if jnp.issubdtype(value.dtype, jnp.integer) else 1.5 * value + 0.1


def test_derived_fields_follow_what_varies():
    default = made("CartPole-v1")[1]
    ranges = {"masscart": (2.0, 3.0), "masspole": ((0.2, 0.3), (0.6, 0.7)), "length": (1.0, 2.0)}
    for key in jax.random.split(jax.random.key(2), 4):
        task = vary_uniform(ranges)(key, default)
        assert float(task.total_mass) == pytest.approx(float(task.masscart + task.masspole))
        assert float(task.polemass_length) == pytest.approx(float(task.masspole * task.length))
    for got, wanted in zip(jax.tree.leaves(derive(default)), jax.tree.leaves(default), strict=True):
        assert float(got) == pytest.approx(float(wanted))


# --- draws


def test_a_union_of_intervals_is_drawn_by_length():
    intervals = ((-1.0, 0.0), (2.0, 2.5), (5.0, 6.5))
    values = np.asarray(jax.jit(lambda key: uniform(key, intervals, (DRAWS,)))(jax.random.key(3)), np.float64)
    hits = [((low <= values) & (values < high)).mean() for low, high in intervals]
    assert sum(hits) == pytest.approx(1.0)
    for share, hit, (low, high) in zip((1 / 3, 1 / 6, 1 / 2), hits, intervals, strict=True):
        assert abs(hit - share) < 4.5 * np.sqrt(share * (1 - share) / DRAWS)
        inside = values[(low <= values) & (values < high)]
        assert abs(inside.mean() - (low + high) / 2) < 4.5 * (high - low) / np.sqrt(12 * len(inside))


@pytest.mark.parametrize(("dtype", "intervals"), [(jnp.int32, ((1, 2), (7, 9))), (jnp.bool_, ((False, True),))])
def test_whole_numbers_are_drawn_with_both_ends(dtype, intervals):
    values = jax.jit(lambda key: uniform(key, intervals, (DRAWS,), dtype))(jax.random.key(4))
    every = [number for low, high in intervals for number in range(low, high + 1)]
    assert values.dtype == dtype
    counts = np.array([(np.asarray(values) == number).sum() for number in every])
    assert counts.sum() == DRAWS
    share = 1 / len(every)
    assert (np.abs(counts - DRAWS * share) < 4.5 * np.sqrt(DRAWS * share * (1 - share))).all()


def test_the_upper_end_of_an_interval_of_floats_is_left_out():
    """Between neighbouring floats there is only the lower one, however a draw is rounded."""
    low, high = 1.0, float(np.nextafter(np.float32(1), np.float32(2)))
    values = jax.jit(lambda key: uniform(key, ((low, high),), (DRAWS,)))(jax.random.key(5))
    assert set(np.asarray(values).tolist()) == {low}


def test_tied_fields_have_one_number_and_elements_of_an_array_their_own():
    default = made("Acrobot-v1")[1]
    task = vary_uniform({("link_mass_1", "link_mass_2"): (0.5, 1.5), "available_torque": (-1.0, 1.0)})(
        jax.random.key(6), default
    )
    assert task.link_mass_1 == task.link_mass_2 != default.link_mass_1
    assert len(set(task.available_torque.tolist())) == 3


@pytest.mark.parametrize(
    "ranges",
    [
        {"length": (0.75, 0.25)},
        {"length": ((0.5, 0.75), (0.1, 0.2))},
        {"length": ((0.1, 0.2), (0.2, 0.3))},
        {"length": (0.1, float("nan"))},
        {"length": (0.1, 0.2, 0.3)},
        {"length": 0.5},
        {"length": ()},
        {"length": ("a", "b")},
        {"length": (0.1, 0.2), ("masspole", "length"): (0.1, 0.2)},
        {"lenght": (0.1, 0.2)},
        {"max_steps_in_episode": (0.5, 10)},
        {"total_mass": (1.0, 2.0)},
        {"length": ((0.5, 0.5), (1.0, 2.0))},
        {"length": (0.0, 3e38)},
        {"length": (0.0, 1e39)},
        {"max_steps_in_episode": (0, 2**31)},
        {"max_steps_in_episode": (-(2**31), 2**31 - 2)},
    ],
    ids=str,
)
def test_ranges_that_are_none_are_refused_in_one_sentence(ranges):
    with pytest.raises(Misuse, match=r"^[^\n]*; [^\n]*\.$"):
        vary_uniform(ranges)(jax.random.key(7), made("CartPole-v1")[1])


def test_a_box_that_differs_between_tasks_needs_a_head_of_its_own():
    vary = vary_uniform({"max_torque": (0.5, 4.0)})
    with pytest.raises(Misuse, match=r"one box of actions for all tasks[^\n]*; pass a head for the widest\.$"):
        from_gymnax("Pendulum-v1", vary)
    assert from_gymnax("Pendulum-v1", vary, head=grid([-2.0], [2.0], 3)).spec.head.width == 3
    assert from_gymnax("Pendulum-v1", vary, head=grid([-4.0], [4.0], 5)).spec.head.width == 5  # the widest, as it says
    with pytest.raises(Misuse, match=r"got some between -4\.0 and 4\.0"):
        from_gymnax("Pendulum-v1", vary_uniform({"m": (0.5, 4.0)}), head=grid([-4.0], [4.0], 5))


def test_the_places_of_numbers_and_arrays_stand_in_one_row():
    ranges = {"x": (0.0, 2.0), "y": (0, 10)}
    np.testing.assert_allclose(places(ranges)(Both()), [1.0, -1.0, 0.0, 1.0])
    assert places({})(Both()).shape == (0,)


@struct.dataclass
class Both:
    x: float = 2.0
    y: Any = dataclasses.field(default_factory=lambda: np.array([0, 5, 10]))


def test_points_are_drawn_all_alike():
    drawn = uniform(jax.random.key(10), ((0.5, 0.5), (2.0, 2.0)), (2_000,))
    assert set(drawn.tolist()) == {0.5, 2.0}
    assert abs(float((drawn == 0.5).mean()) - 0.5) < 4.5 * 0.5 / np.sqrt(2_000)


@struct.dataclass
class Lake:
    map: Any = None
    holes: Any = dataclasses.field(default_factory=lambda: np.uint8(3))
    size: int = struct.field(pytree_node=False, default=4)
    frozen: bool = True


def test_static_fields_and_flags_beyond_true_are_refused():
    with pytest.raises(Misuse, match=r"^size must be a leaf [^\n]*static[^\n]*; [^\n]*\.$"):
        vary_uniform({"size": (2, 8)})(jax.random.key(8), Lake())
    with pytest.raises(Misuse, match=r"^map must be a number or an array to vary, got None; [^\n]*\.$"):
        vary_uniform({"map": (0, 1)})(jax.random.key(8), Lake())
    with pytest.raises(Misuse, match=r"^the range of holes must lie within 0 and 255, since it is uint8[^\n]*; [^\n]*\.$"):
        vary_uniform({"holes": (-5, 300)})(jax.random.key(8), Lake())
    with pytest.raises(Misuse, match=r"within 0 and 1[^\n]*; [^\n]*\.$"):
        vary_uniform({"frozen": (0, 2)})(jax.random.key(9), Lake())
