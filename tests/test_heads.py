"""Action heads for large and continuous action spaces: exact against brute force, and at home in every loss."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from metadqn_jax import td, trees
from metadqn_jax.actions import (
    Support,
    by_dimension,
    candidates,
    discrete,
    factored,
    held,
    multi_discrete,
    naf,
    ornstein_uhlenbeck,
    sampled,
)
from metadqn_jax.checks import Misuse
from metadqn_jax.environments.navigation_2d import Navigation2D
from metadqn_jax.heads.sampled import search
from metadqn_jax.learners.anil import head_weights
from metadqn_jax.learners.descent import Policy
from metadqn_jax.loops import repeat
from metadqn_jax.memories.linear_attention import linear_attention
from metadqn_jax.networks import mlp, reader, scorer
from metadqn_jax.tasks.disguises import permute_actions
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.navigation_2d import navigation_2d
from metadqn_jax.tasks.wrappers import with_head
from metadqn_jax.types import Spec, Transition

LOW, HIGH = np.float32([-2.0, 0.0]), np.float32([2.0, 3.0])
SUPPORT = Support(-2.0, 3.0, 6)
FEATURES = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
SIZES = (2, 4, 1)
SEARCHED = {"units": 8, "points": 16, "elites": 4}
HEADS = {
    "factored": factored(LOW, HIGH, 3),
    "factored, support": factored(LOW, HIGH, 5, SUPPORT),
    "multi_discrete": multi_discrete(SIZES),
    "multi_discrete, support": multi_discrete(jnp.array(SIZES), SUPPORT),
    "candidates": candidates(FEATURES),
    "candidates, support": candidates(FEATURES, SUPPORT),
    "sampled": sampled(LOW, HIGH, **SEARCHED),
    "sampled, support": sampled(LOW, HIGH, SUPPORT, **SEARCHED),
    "naf, one dimension": naf(LOW[:1], HIGH[:1]),
    "naf": naf(LOW, HIGH),
}
BOXED = [name for name in HEADS if name.startswith(("factored", "sampled", "naf"))]
T, OBS = 6, 3


class Case:
    """A head under a small network, and all that it says of T observations and of 5 other actions for each."""

    def __init__(self, name):
        self.name, self.head = name, HEADS[name]
        self.network = mlp(Spec(jax.ShapeDtypeStruct((OBS,), jnp.float32), self.head), hidden=(8,))
        self.params = jax.jit(self.network.init)(jax.random.key(0))
        self.params = jax.tree.map(lambda leaf: 2 * leaf, self.params)
        self.obs = jnp.asarray(np.random.default_rng(1).normal(size=(T, OBS)), jnp.float32)
        self.actions = jax.vmap(jax.vmap(self.head.sample))(jax.random.split(jax.random.key(1), (T, 5)))
        self.said = jax.jit(jax.vmap(self.say, (None, 0, 0)))(self.params, self.obs, self.actions)

    def outputs(self, params, obs):
        return self.network.apply(params, obs, None)

    def say(self, params, obs, actions):
        head, outputs = self.head, self.outputs(params, obs)
        greedy = head.greedy(outputs)
        return {
            "greedy": greedy,
            "maximum": head.maximum(outputs),
            "of greedy": head.value(outputs, greedy),
            "of others": jax.vmap(lambda action: head.value(outputs, action))(actions),
            "taken": head.decode(greedy),
            "features": head.embed(greedy),
        }


@functools.cache
def case_of(name):
    return Case(name)


@pytest.fixture(scope="module", params=HEADS)
def case(request):
    return case_of(request.param)


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# --- what holds for every head


def test_the_maximum_is_the_value_of_the_greedy_action_and_no_other_is_above_it(case):
    np.testing.assert_array_equal(case.said["maximum"], case.said["of greedy"])
    slack = 1e-5 if "sampled" not in case.name else 0.02  # a search may miss the top by a little
    assert (case.said["of others"] <= case.said["maximum"][:, None] + slack).all()
    assert (case.said["of others"].min(1) < case.said["maximum"]).all()


def test_vmap_is_a_loop_and_greedy_needs_no_key(case):
    once = jax.jit(case.say)
    for t in range(T):
        for name, value in once(case.params, case.obs[t], case.actions[t]).items():
            close(value, case.said[name][t])


def test_actions_have_the_shape_of_samples_and_land_in_the_box(case):
    greedy, sample = case.said["greedy"], case.actions[:, 0]
    assert (greedy.shape, greedy.dtype) == (sample.shape, sample.dtype)
    assert case.said["features"].ndim == 2
    if case.name in BOXED:
        d = case.said["taken"].shape[1]
        many = jax.jit(jax.vmap(lambda key: case.head.decode(case.head.sample(key))))(jax.random.split(jax.random.key(2), 500))
        for taken in (np.asarray(case.said["taken"]), np.asarray(many)):
            assert taken.dtype == np.float32
            assert ((taken >= LOW[:d]) & (taken <= HIGH[:d])).all()
        close(many.mean(0), (LOW + HIGH)[:d] / 2, 0.25)  # uniform, 500 of them
        assert (np.ptp(many, 0) > 0.9 * (HIGH - LOW)[:d]).all()


def test_gradients_of_values_equal_finite_differences_in_float64(case):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), case.params)
        obs, actions = jnp.asarray(case.obs, jnp.float64), case.actions[:, 0]

        def total(params):
            return jnp.sum(jax.vmap(lambda obs, action: case.head.value(case.outputs(params, obs), action))(obs, actions))

        leaves, tree = jax.tree.flatten(params)
        rng = np.random.default_rng(2)
        direction = tree.unflatten([jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves])
        step, value = 1e-6, jax.jit(total)
        expected = (
            value(trees.add(params, trees.scale(step, direction))) - value(trees.add(params, trees.scale(-step, direction)))
        ) / (2 * step)
        gradient = jax.jit(jax.grad(total))(params)
        got = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
        assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
        assert got == pytest.approx(float(expected), rel=1e-6, abs=1e-7)


def test_a_dqn_learns_with_every_head(case):
    """Double Q-learning on λ-returns: one jitted update, 60 times, with a target network that carries the head's parameters."""
    rng = np.random.default_rng(3)
    reward, ends = jnp.asarray(rng.normal(size=T), jnp.float32), jnp.arange(T) == T - 1
    stream = Transition(case.obs, case.actions[:, 0], reward, jnp.roll(case.obs, -1, 0), ends, jnp.zeros(T, bool))
    regression = td.hl_gauss() if case.head.support else td.huber(1.0)
    loss = td.temporal_difference(case.head, select=td.double, target=td.lambda_return(0.5, 0.8), regression=regression)

    def mean_loss(params, target):
        def outputs(params, obs):
            return jax.vmap(lambda one: case.outputs(params, one))(obs)

        views = (outputs(params, obs) for params in (params, target) for obs in (stream.obs, stream.next_obs))
        return jnp.mean(loss(td.Views(*views), stream))

    @jax.jit
    def train(params):
        def update(carry, _):
            params, target = carry
            value, gradient = jax.value_and_grad(mean_loss)(params, target)
            params = trees.subtract(params, trees.scale(0.05, trees.clip(gradient, 1.0)))
            return (params, trees.mix(target, params, 0.1)), (value, trees.squared_norm(gradient))

        return jax.lax.scan(update, (params, params), length=60)[1]

    losses, norms = train(case.params)
    assert np.isfinite(losses).all()
    assert np.isfinite(norms).all()
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("name", [name for name, head in HEADS.items() if head.support])
def test_with_a_support_the_logits_are_those_of_the_distribution_whose_mean_is_the_value(name):
    case = case_of(name)
    outputs, action = case.outputs(case.params, case.obs[0]), case.actions[0, 0]
    probabilities = jax.nn.softmax(case.head.logits(outputs, action))
    close(probabilities @ SUPPORT.centers, case.head.value(outputs, action))
    assert np.ptp(probabilities) > 0.01


# --- factored


@pytest.mark.parametrize(
    ("name", "sizes"), [("factored", (3, 3)), ("multi_discrete", SIZES), ("multi_discrete, support", SIZES)]
)
def test_a_factored_greedy_action_is_the_best_of_all_joint_actions(name, sizes):
    head = HEADS[name]
    joint = np.array(list(itertools.product(*map(range, sizes))), np.int32)
    outputs = jnp.asarray(np.random.default_rng(4).normal(size=(20, head.width)), jnp.float32)
    every = np.asarray(jax.vmap(lambda o: jax.vmap(lambda a: head.value(o, a))(joint))(outputs))
    np.testing.assert_array_equal(jax.vmap(head.greedy)(outputs), joint[every.argmax(1)])
    np.testing.assert_array_equal(jax.vmap(head.maximum)(outputs), every.max(1))
    assert len(np.unique(every.argmax(1))) > 3
    cells = np.split(np.asarray(outputs).reshape(20, sum(sizes), -1), np.cumsum(sizes)[:-1], 1)
    if not head.support:  # the definition
        naive = [[np.mean([cells[i][b, a, 0] for i, a in enumerate(action)]) for action in joint] for b in range(20)]
        close(every, naive)


def test_a_mixture_and_not_a_mean_of_logits_is_what_a_factored_head_regresses():
    head = HEADS["factored, support"]
    outputs, action = jnp.asarray(np.random.default_rng(5).normal(size=head.width), jnp.float32), jnp.int32([4, 0])
    logits = np.asarray(outputs).reshape(2, 5, SUPPORT.bins)[[0, 1], [4, 0]]
    each = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    close(np.exp(head.logits(outputs, action)), each.mean(0))
    close(head.value(outputs, action), (each @ np.asarray(SUPPORT.centers)).mean())


def test_factored_levels_span_the_box_with_its_middle():
    head = HEADS["factored"]
    close(head.decode(jnp.int32([0, 2])), [-2.0, 3.0])
    close(head.decode(jnp.int32([1, 1])), [0.0, 1.5])
    np.testing.assert_array_equal(head.embed(jnp.int32([2, 0])), [0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(HEADS["multi_discrete"].embed(jnp.int32([1, 3, 0])), [0, 1, 0, 0, 0, 1, 1])


# --- candidates


def test_candidates_are_valued_by_their_features_one_by_one():
    head = HEADS["candidates"]
    outputs = jnp.asarray(np.random.default_rng(6).normal(size=(9, 4)), jnp.float32)
    naive = [[sum(o[j] * row[j] for j in range(3)) + o[3] for row in FEATURES] for o in np.asarray(outputs)]
    close(jax.vmap(head.values)(outputs), naive)
    close([[head.value(o, a) for a in range(7)] for o in outputs], naive)
    np.testing.assert_array_equal(jax.vmap(head.greedy)(outputs), np.argmax(naive, 1))
    np.testing.assert_array_equal(head.embed(jnp.int32(3)), FEATURES[3])
    assert set(np.asarray(jax.vmap(head.sample)(jax.random.split(jax.random.key(0), 200)))) == set(range(7))


def test_ten_thousand_candidates_cost_one_product():
    """The network gives 17 numbers, and no layer runs once for each action."""
    features = np.random.default_rng(7).normal(size=(10_000, 16)).astype(np.float32)
    head = candidates(features)
    network = mlp(Spec(jax.ShapeDtypeStruct((OBS,), jnp.float32), head))
    params = network.init(jax.random.key(0))
    choose = jax.jit(lambda obs: head.greedy(network.apply(params, obs, None)))
    obs = jnp.ones(OBS)
    assert head.width == 17
    assert int(choose(obs)) == int((features @ np.asarray(network.apply(params, obs, None))[:16]).argmax())
    flops = choose.lower(obs).compile().cost_analysis()["flops"]
    assert flops < 1.5 * (2 * 10_000 * 16 + 10_000 * 2 + 2 * (OBS * 64 + 64 * 64 + 64 * 17))


# --- sampled


@pytest.mark.parametrize("d", [1, 2, 6])
def test_a_search_finds_the_top_of_a_quadratic_and_stays_in_the_box(d):
    centres = jnp.asarray(np.random.default_rng(8).uniform(-1.4, 1.4, (64, d)), jnp.float32)  # some lie outside
    spans = {"points": 64, "iterations": 6, "elites": 8}
    find = jax.jit(jax.vmap(lambda centre: searched(lambda a: -jnp.sum((a - centre) ** 2), d, **spans)))
    found = np.asarray(find(centres))
    assert np.abs(found).max() <= 1.0
    off = np.abs(found - np.clip(centres, -1, 1)).max(1)
    assert off.max() < {1: 1e-3, 2: 0.02, 6: 0.5}[d]
    assert np.median(off) < {1: 1e-4, 2: 3e-3, 6: 0.1}[d]


def searched(q, d, *, points, iterations, elites):
    from metadqn_jax.heads.sampled import _sobol

    first, noises = _sobol(points, iterations, d)
    assert first.shape == (points, d)
    assert noises.shape == (iterations, points, d)
    assert np.abs(first).max() < 1
    close(first.mean(0), np.zeros(d), 1 / points)
    close(noises.std((0, 1)), np.ones(d), 0.1)
    return search(q, jnp.asarray(first), jnp.asarray(noises), elites)


def test_a_search_never_loses_what_it_found():
    points, noises = jnp.asarray([[0.9], [-0.3], [0.2]]), 5.0 * jnp.ones((4, 3, 1))  # to the border, which is poor
    assert float(search(lambda a: -jnp.abs(a[0] - 0.25), points, noises, 2)[0]) == pytest.approx(0.2)


def test_nothing_is_differentiated_through_a_search():
    case = case_of("sampled")

    def maximum(params, fixed=None):
        outputs = case.outputs(params, case.obs[0])
        return case.head.maximum(outputs) if fixed is None else case.head.value(outputs, fixed)

    best = case.said["greedy"][0]
    of_maximum, of_value = jax.jit(jax.grad(maximum))(case.params), jax.jit(jax.grad(maximum))(case.params, best)
    jax.tree.map(close, of_maximum, of_value)


def test_what_a_head_owns_stands_among_the_networks_parameters():
    owner, plain = case_of("sampled"), case_of("factored")
    assert set(owner.params) == {"torso", "head", "head_action"}
    assert set(plain.params) == {"torso", "head"}
    assert set(head_weights.pick(Policy(owner.params, None))) == {"head", "head_action"}
    vector, own = owner.outputs(owner.params, owner.obs[0])
    assert vector.shape == (SEARCHED["units"],)
    jax.tree.map(np.testing.assert_array_equal, own, owner.params["head_action"])
    same = mlp(Spec(jax.ShapeDtypeStruct((OBS,), jnp.float32), discrete(8)), hidden=(8,)).init(jax.random.key(0))
    jax.tree.map(lambda a, b: close(a, 2 * b), {name: owner.params[name] for name in same}, same)  # keys of others stay


# --- naf


def test_naf_is_a_quadratic_around_its_greedy_action():
    head, rng = HEADS["naf"], np.random.default_rng(9)
    for _ in range(5):
        outputs, action = rng.normal(size=6).astype(np.float32), rng.uniform(-1, 1, 2).astype(np.float32)
        mu = np.tanh(outputs[1:3])
        lower = np.array([[np.log1p(np.exp(outputs[3])), 0], [outputs[4], np.log1p(np.exp(outputs[5]))]])
        close(head.greedy(outputs), mu)
        close(head.value(outputs, action), outputs[0] - 0.5 * (action - mu) @ lower @ lower.T @ (action - mu))
        assert head.maximum(outputs) == outputs[0]


# --- exploration

LIVES, STEPS = 300, 60


def explored(head, action, epsilon):
    """Actions [lives, steps, d] of streams whose greedy action is always the same."""

    def one(key):
        step = lambda key, t, carry: head.perturb(key, carry, action, epsilon)  # noqa: E731
        return repeat(key, STEPS, step, trees.strengthen(head.rest()))[1]

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(4), LIVES)))


def test_each_dimension_explores_on_its_own():
    head, epsilon = multi_discrete([3, 4]), 0.3
    off = explored(head, jnp.int32([1, 1]), epsilon).reshape(-1, 2) != 1
    n, expected = len(off), epsilon * np.array([2 / 3, 3 / 4])
    assert (np.abs(off.mean(0) - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n)).all()
    both = expected.prod()
    assert abs(off.all(1).mean() - both) < 4.5 * np.sqrt(both * (1 - both) / n)
    off = explored(by_dimension(HEADS["naf"]), jnp.zeros(2), epsilon).reshape(-1, 2) != 0
    assert (np.abs(off.mean(0) - epsilon) < 4.5 * np.sqrt(epsilon * (1 - epsilon) / n)).all()
    assert abs(off.all(1).mean() - epsilon**2) < 4.5 * epsilon / np.sqrt(n)


@pytest.mark.parametrize("name", ["sampled", "naf"])
def test_real_vectors_explore_as_a_whole(name):
    off = explored(HEADS[name], jnp.zeros(2), 0.3).reshape(-1, 2) != 0
    np.testing.assert_array_equal(off[:, 0], off[:, 1])
    assert abs(off.mean() - 0.3) < 4.5 * np.sqrt(0.3 * 0.7 / len(off))
    runs = explored(held(HEADS[name], 5), jnp.zeros(2), 1.0).reshape(LIVES, -1, 5, 2)
    assert (runs == runs[:, :, :1]).all()
    assert (np.diff(runs[:, :, 0], axis=1) != 0).all()


def test_ornstein_uhlenbeck_noise_has_its_spread_and_its_memory():
    pull, spread, start = 0.2, 0.1, jnp.float32([0.2, -0.1])  # the box is far
    noise = explored(ornstein_uhlenbeck(HEADS["naf"], pull, spread), start, 1.0) - np.asarray(start)
    late = noise[:, 30:]
    assert late.std() == pytest.approx(spread, rel=0.05)
    assert np.abs(late.mean(1)).mean() > 2 * spread / np.sqrt(30)  # far more than independent noise would leave
    steps = np.corrcoef(late[:, :-1].ravel(), late[:, 1:].ravel())[0, 1]
    assert steps == pytest.approx(1 - pull, abs=0.03)
    assert noise[:, 0].std() == pytest.approx(spread * np.sqrt(1 - (1 - pull) ** 2), rel=0.15)  # it begins at 0
    half = explored(ornstein_uhlenbeck(HEADS["naf"], pull, spread), start, 0.5) - np.asarray(start)
    close(half, noise / 2, 1e-6)
    np.testing.assert_array_equal(explored(ornstein_uhlenbeck(HEADS["naf"]), start, 0.0)[0, -1], start)
    far = explored(ornstein_uhlenbeck(HEADS["sampled"], 0.15, 3.0), start, 1.0)
    assert np.abs(far).max() == 1.0


# --- another head for a family


def test_a_family_takes_another_head_for_its_actions():
    family = with_head(navigation_2d(), factored([-0.1] * 2, [0.1] * 2, 3))
    for side in family.split:
        task = side.sample(jax.random.key(0))
        world, _ = side.reset(jax.random.key(1), task)
        _, step = side.step(jax.random.key(2), task, world, side.spec.head.decode(jnp.int32([2, 0])))
        close(step.transition_obs, [0.1, -0.1])


@pytest.mark.parametrize(
    ("head", "fits"),
    [
        (factored([-0.1] * 2, [0.1] * 2, 101), True),
        (sampled([-0.1, -0.05], [0.1, 0.05]), True),
        (naf([-0.1] * 2, [0.1, 0.2]), False),
        (factored([-5.0] * 2, [5.0] * 2, 3), False),
    ],
)
def test_another_head_stays_within_the_box(head, fits):
    if fits:
        assert with_head(navigation_2d(), head).split.test.spec.head is head
        return
    with pytest.raises(Misuse, match=r"the head must give actions between \[-0.1 -0.1\] and .*; take a head for"):
        with_head(navigation_2d(), head)


def test_a_network_that_reads_splits_values_only_where_that_means_something():
    for name, head in HEADS.items():
        spec = Spec(jax.ShapeDtypeStruct((OBS,), jnp.float32), head)
        plain, split = (reader(spec, None, hidden=(8,), dueling=dueling).init(jax.random.key(0)) for dueling in (False, True))
        assert (trees.shapes(plain) != trees.shapes(split)) == name.startswith(("factored", "multi_discrete", "discrete")), name


# --- the usual heads of gymnax's spaces


class Pairs(spaces.Space):
    """What gymnasium calls MultiDiscrete([3, 3])."""

    nvec = np.array([3, 3])

    def sample(self, key):
        return jax.random.randint(key, (2,), 0, 3)


class Given(Navigation2D):
    """The point, its velocities taken from another space; whole numbers are levels."""

    def __init__(self, space):
        super().__init__()
        self.space = space

    def action_space(self, params):
        return self.space

    def step_env(self, key, state, action, params):
        return super().step_env(key, state, 0.1 * (jnp.asarray(action).reshape(2) - 1.0), params)


def here(key, params):
    return params


def taken(head):
    return jax.vmap(head.decode)(jax.vmap(head.sample)(jax.random.split(jax.random.key(0), 200)))


def test_a_bounded_box_and_a_space_of_several_choices_get_factored_heads():
    head = from_gymnax(Given(spaces.Box(0.0, jnp.array([[2.0, 4.0]]), (1, 2))), here).spec.head
    assert head.width == 10
    np.testing.assert_array_equal(np.unique(taken(head)[:, 0, 0]), [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(np.unique(taken(head)[:, 0, 1]), [0, 1, 2, 3, 4])
    head = from_gymnax(Given(Pairs()), here).spec.head
    assert head.width == 6
    assert {tuple(pair) for pair in np.asarray(taken(head))} == set(itertools.product(range(3), range(3)))


@pytest.mark.parametrize(
    ("space", "head", "words"),
    [
        (spaces.Box(-jnp.inf, jnp.inf, (2,)), None, "finite bounds low < high"),
        (spaces.Dict({"a": spaces.Discrete(2)}), None, "no head is usual; pass one"),
        (spaces.Box(0.0, 1.0, (2,)), naf([0.0], [1.0]), r"actions float32\[2\], got float32\[1\]; take a head for Box"),
        (spaces.Box(0.0, 1.0, (2,)), multi_discrete([3, 3]), r"float32\[2\], got int32\[2\]; take"),
        (Pairs(), factored([0.0] * 2, [2.0] * 2, 3), r"int32\[2\], got float32\[2\]; take"),
        (Pairs(), multi_discrete([4, 3]), "got some between 0 and 3; take"),
    ],
)
def test_a_head_for_another_space_is_refused(space, head, words, monkeypatch):
    monkeypatch.setattr("metadqn_jax.tasks.from_gymnax._check_survival", lambda *_: None)  # it samples actions, and costs
    with pytest.raises(Misuse, match=words) as raised:
        from_gymnax(Given(space), here, head=head)
    assert "\n" not in str(raised.value)


def test_ten_thousand_actions_are_counted():
    with pytest.raises(Misuse, match=r"must have CartPole-v1's 2 actions, got 7; take a head for Discrete\(2"):
        from_gymnax("CartPole-v1", here, head=HEADS["candidates"])


def test_actions_keep_their_dtype_in_float64():
    with jax.enable_x64(True):
        for head in (naf([-1.0], [1.0]), factored([-1.0], [1.0], 3)):
            outputs = jnp.zeros(head.width, jnp.float64)
            assert head.greedy(outputs).dtype == head.sample(jax.random.key(0)).dtype


# --- refusals


@pytest.mark.parametrize("name", ["factored", "sampled", "naf"])
def test_what_is_read_for_each_action_refuses_a_head_without_a_value_for_each(name):
    spec = Spec(jax.ShapeDtypeStruct((OBS,), jnp.float32), HEADS[name])
    with pytest.raises(
        Misuse, match=r"^a memory that is read for each action must know the actions one by one, [^\n]*; [^\n]*\.$"
    ):
        linear_attention(spec, per_action=True)
    with pytest.raises(Misuse, match=r"^a scorer needs a head with one output and a context [^\n]*; [^\n]*\.$"):
        scorer(spec, context=(HEADS[name].width, 4))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: factored([-1.0], [np.inf], 3), "a factored head must lie in a box with finite bounds"),
        (lambda: factored([-3e38], [3e38], 3), "finite bounds"),
        (lambda: factored([], [], 3), "finite bounds"),
        (lambda: factored([0.0], [1.0], 0), "bins must be a whole number of at least 3, got 0"),
        (lambda: factored([0.0], [1.0], 4), "bins must be odd, .* got 4; take 5"),
        (lambda: multi_discrete([]), "at least one dimension"),
        (lambda: multi_discrete([2, 0]), "options of a dimension must be"),
        (lambda: multi_discrete([2], Support(1.0, 0.0, 3)), "support.low must be below"),
        (lambda: candidates([1.0, 2.0]), r"candidates must have features \[actions, m\], .* got the shape \[2\]"),
        (lambda: candidates(np.zeros((0, 3))), r"got the shape \[0, 3\]"),
        (lambda: candidates([[np.nan]]), "features must be finite"),
        (lambda: sampled([0.0], [np.nan]), "a sampled head must lie in a box"),
        (lambda: sampled([0.0], [1.0], points=4, elites=5), "elites must be at most the points, 4, got 5"),
        (lambda: sampled([0.0], [1.0], iterations=0), "iterations must be a whole number"),
        (lambda: naf([0.0] * 3, [1.0] * 3), "naf must have at most 2 dimensions, got 3; take `factored` or `sampled`"),
        (lambda: naf([1.0], [0.0]), "naf must lie in a box"),
        (lambda: by_dimension(discrete(3)), r"actions are vectors \[d\], got shape \(\)"),
        (lambda: ornstein_uhlenbeck(HEADS["factored"]), r"real vectors, got int32\[2\]; take `sampled` or `naf`"),
        (lambda: ornstein_uhlenbeck(HEADS["naf"], pull=1.5), "pull must be"),
        (lambda: with_head(navigation_2d(), HEADS["candidates"]), "an action must stay float32"),
        (lambda: permute_actions(with_head(navigation_2d(), naf([-0.1] * 2, [0.1] * 2)).split.train), "one by one"),
        (
            lambda: mlp(Spec(jax.ShapeDtypeStruct((3,), jnp.float32), HEADS["sampled, support"]), dueling=True),
            "a dueling network needs a head with an output for each option",
        ),
    ],
)
def test_impossible_heads_are_refused_in_one_sentence(build, words):
    with pytest.raises(Misuse, match=words) as raised:
        build()
    assert "\n" not in str(raised.value)
    assert ";" in str(raised.value)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize("name", ["factored", "sampled", "naf"])
def test_a_loss_refuses_a_head_that_cannot_give_what_it_needs(name):
    parts = {"select": td.greedy, "target": td.one_step(0.9), "regression": td.squared}
    for changed in ({"select": td.munchausen()}, {"select": td.expected_sarsa(0.1)}, {"regression": td.hl_gauss()}):
        with pytest.raises(Misuse, match=r"^[^\n.]* needs an action head that gives [^\n.]*; [^\n.]*\.$"):
            td.temporal_difference(HEADS[name], **{**parts, **changed})
