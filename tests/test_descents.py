"""What makes each gradient-based learner itself: identities, naive twins, and what is refused."""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn

from metadqn_jax import networks, td, trees
from metadqn_jax.actions import discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.learners import anil, cavia, descent, imaml, maml_plus_plus, meta_sgd, reptile, rules
from metadqn_jax.learners.base import after, before, first_slow, td_loss, throughout
from metadqn_jax.types import Lifetime, Spec, Transition

K, T, E, A, STEPS, COUNT, OVER, CONTEXT = 3, 4, 2, 3, 2, 4, 10, 3
RATE = 0.25  # a float32, as which learnt rates start
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), discrete(A))
NETWORK = networks.mlp(SPEC, hidden=(4,), activation=nn.tanh)
READER = networks.mlp(SPEC, hidden=(4,), activation=nn.tanh, context=CONTEXT)
LOSS = td.temporal_difference(discrete(A), select=td.greedy, target=td.one_step(0.9), regression=td.squared)


def key():
    return jax.random.key(0)  # anew, for a key is consumed once


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def make(factory, network=NETWORK, rate=RATE, steps=STEPS, **choices):
    return factory(network, inner=LOSS, outer=LOSS, rate=rate, steps=steps, **choices)


def make_reptile(**choices):
    return reptile.reptile(NETWORK, inner=LOSS, **{"rate": RATE, "steps": STEPS, **choices})


LEARNERS = {
    "maml": lambda **choices: make(descent.maml, **choices),
    "fomaml": lambda **choices: make(descent.fomaml, **choices),
    "anil": lambda **choices: make(anil.anil, **choices),
    "meta_sgd": lambda **choices: make(meta_sgd.meta_sgd, **choices),
    "maml_plus_plus": lambda **choices: make(maml_plus_plus.maml_plus_plus, count=COUNT, over=OVER, **choices),
    "cavia": lambda **choices: make(cavia.cavia, READER, **choices),
    "reptile": make_reptile,
    "imaml": lambda **choices: make(imaml.imaml, **choices),
}


def lifetime(segments=K):
    keys = jax.random.split(jax.random.key(1), 6)
    shape = (segments, T, E)
    return Lifetime(
        (),
        Transition(
            obs=jax.random.normal(keys[0], (*shape, 2)),
            action=jax.random.randint(keys[1], shape, 0, A),
            reward=jax.random.normal(keys[2], shape),
            next_obs=jax.random.normal(keys[3], (*shape, 2)),
            terminated=jax.random.bernoulli(keys[4], 0.2, shape),
            truncated=jax.random.bernoulli(keys[5], 0.2, shape),
        ),
    )


def segment(k):
    return jax.tree.map(lambda leaf: leaf[k], lifetime().experience)


def slow_of(learner):
    """A slow state in float64 whose target network is its own."""
    slow = first_slow(learner, key())
    slow = jax.tree.map(lambda leaf: leaf.astype(float) if leaf.dtype == jnp.float32 else leaf, slow)
    return slow._replace(target=jax.tree.map(lambda leaf: 0.8 * leaf, slow.target))


def loss_and_gradient(learner, slow, data=None):
    data = lifetime() if data is None else data

    def loss(params):
        return learner.loss(key(), slow._replace(params=params), data)[0]

    return jax.jit(jax.value_and_grad(loss))(slow.params)


def distance(a, b):
    """‖a − b‖ / ‖b‖"""
    return float(jnp.sqrt(trees.squared_norm(trees.subtract(a, b)) / trees.squared_norm(b)))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_rate_of_zero_does_not_adapt(name):
    learner = LEARNERS[name](rate=0.0)
    slow = slow_of(learner)
    fast = learner.begin(key(), slow)
    adapted, info = learner.adapt(key(), slow, fast, segment(0))
    assert info["moved"] == 0
    for a, b in zip(jax.tree.leaves(adapted.weights), jax.tree.leaves(fast.weights), strict=True):
        assert (a == b).all()
    assert learner.loss(key(), slow, lifetime())[1]["moved"] == 0


@pytest.mark.parametrize("name", LEARNERS)
def test_what_moved_is_reported(name):
    learner = LEARNERS[name]()
    slow = slow_of(learner)
    start = fast = learner.begin(key(), slow)
    for k in range(K if name == "reptile" else K - 1):
        earlier, (fast, info) = fast, learner.adapt(key(), slow, fast, segment(k))
        assert jnp.allclose(info["moved"], jnp.sqrt(trees.squared_norm(trees.subtract(fast.weights, earlier.weights))))
    slow = slow._replace(step=jnp.int32(OVER))
    moved = learner.loss(key(), slow, lifetime())[1]["moved"]
    assert moved > 0
    assert jnp.allclose(moved, jnp.sqrt(trees.squared_norm(trees.subtract(fast.weights, start.weights))))


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("wrong", [{"rate": -0.1}, {"steps": 0}])
def test_negative_rates_and_no_steps_are_refused(name, wrong):
    with pytest.raises(Misuse):
        LEARNERS[name](**wrong)


SWEPT = [("meta_sgd", "rate"), ("maml_plus_plus", "rate"), ("cavia", "rate"), ("reptile", "rate"), ("imaml", "strength")]


@pytest.mark.parametrize(("name", "number"), SWEPT)
def test_a_sweep_is_a_loop(name, number):
    slow, data = slow_of(LEARNERS[name]()), lifetime()

    def gradient(value):
        learner = LEARNERS[name](**{number: value})
        now = slow._replace(params=slow.params._replace(rates=first_slow(learner, key()).params.rates))
        return jax.grad(lambda params: learner.loss(key(), now._replace(params=params), data)[0])(now.params).start

    swept = jax.jit(jax.vmap(gradient))(jnp.array([0.1, 0.4]))
    alone = [jax.jit(gradient)(value) for value in (0.1, 0.4)]
    for i, one in enumerate(alone):
        assert distance(jax.tree.map(lambda leaf, i=i: leaf[i], swept), one) < 1e-9
    assert distance(*alone) > 1e-3


def test_meta_sgd_starts_as_maml():
    plain, learnt = LEARNERS["maml"](), LEARNERS["meta_sgd"]()
    slow = slow_of(learnt)
    slow = slow._replace(target=slow.target._replace(rates=slow.params.rates))
    without = slow._replace(params=slow.params._replace(rates=()), target=slow.target._replace(rates=()))
    ours, theirs = loss_and_gradient(learnt, slow), loss_and_gradient(plain, without)
    assert ours[0] == theirs[0]
    assert distance(ours[1].start, theirs[1].start) < 1e-12
    assert trees.squared_norm(ours[1].rates) > 0


def maml_twin(slow):
    """(the query losses of plain steps, one by one, from the start of `slow`; their plain slow state)."""
    one = make(descent.maml, steps=1)
    slow = slow._replace(params=descent.Learnt(slow.params.start, ()), target=descent.Learnt(slow.target.start, ()))
    fast, losses = one.begin(key(), slow), []
    for k in range(K - 1):
        for _ in range(STEPS):
            fast, _ = one.adapt(key(), slow, fast, segment(k))
            losses.append(td_loss(LOSS, NETWORK, descent.Policy(fast.weights, None), slow.target.start, segment(K - 1)))
    return jnp.stack(losses), slow


@pytest.mark.parametrize("step", [0, OVER // 2, OVER, 3 * OVER])
def test_multi_step_loss_goes_from_the_mean_of_all_steps_to_the_last(step):
    learner = LEARNERS["maml_plus_plus"](target=descent.plain_target)
    slow = slow_of(learner)._replace(step=jnp.int32(step))
    losses, plain_slow = maml_twin(slow)
    share = min(step / OVER, 1.0)
    value, gradient = loss_and_gradient(learner, slow)
    assert jnp.allclose(value, (1 - share) * losses.mean() + share * losses[-1], rtol=1e-12, atol=0)
    plain = make(descent.maml, target=descent.plain_target)
    same = distance(gradient.start, loss_and_gradient(plain, plain_slow)[1].start) < 1e-9
    assert same == (step >= OVER)


def test_a_rate_belongs_to_its_step_and_the_last_to_all_after():
    rule = maml_plus_plus.layer_step_sgd(0.1, count=3, clip=10.0)
    rates = {"w": jnp.array([1.0, 2.0, 3.0])}
    weights, gradient = {"w": jnp.zeros(2)}, {"w": jnp.array([1.0, -1.0])}
    assert rule.rates(weights)["w"].tolist() == [0.1] * 3
    moved = [rule.update(rates, (), jnp.int32(step), weights, gradient)[0]["w"].tolist() for step in range(5)]
    assert moved == [[-rate, rate] for rate in (1.0, 2.0, 3.0, 3.0, 3.0)]


@pytest.mark.parametrize("dueling", [False, True])
def test_anil_moves_the_head_and_nothing_else(dueling):
    network = networks.mlp(SPEC, hidden=(4,), dueling=dueling)
    learner = make(anil.anil, network)
    slow = slow_of(learner)
    fast, _ = learner.adapt(key(), slow, learner.begin(key(), slow), segment(0))
    start = slow.params.start
    adapted = anil.head_weights.place(start, fast.weights).network
    assert jax.tree.structure(adapted) == jax.tree.structure(start.network)
    for name, weights in start.network.items():
        moved = any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (adapted[name], weights)), strict=True))
        assert moved == name.startswith("head")
    torso = loss_and_gradient(learner, slow)[1].start.network["torso"]
    assert trees.squared_norm(torso) > 0


def test_anil_refuses_a_network_without_a_head():
    bare = NETWORK._replace(init=lambda key: {"layer": NETWORK.init(key)["torso"]})
    with pytest.raises(Misuse, match="layer"):
        first_slow(make(anil.anil, bare), key())


@pytest.mark.parametrize("rule", [rules.sgd, meta_sgd.learnt_sgd])
def test_cavia_moves_a_context_from_zero_and_learns_the_network(rule):
    learner = make(cavia.cavia, READER, rule=rule)
    slow = slow_of(learner)
    start = slow.params.start._replace(context=jnp.ones(CONTEXT))
    slow = slow._replace(params=slow.params._replace(start=start))
    fast = learner.begin(key(), slow)
    assert (fast.weights == jnp.zeros(CONTEXT)).all()
    adapted, _ = learner.adapt(key(), slow, fast, segment(0))
    obs = segment(0).obs[0, 0]
    assert (learner.q(slow, adapted, obs) == READER.apply(start.network, obs, adapted.weights)).all()
    assert (adapted.weights != 0).all()
    gradient = loss_and_gradient(learner, slow)[1]
    assert (gradient.start.context == 0).all()
    assert trees.squared_norm(gradient.start.network) > 0


def test_cavia_refuses_a_network_that_reads_no_context():
    with pytest.raises(Misuse, match="reads a context, got none"):
        make(cavia.cavia)


def test_a_context_that_does_not_adapt_is_learnt():
    learner = make(descent.maml, READER)
    slow = slow_of(learner)
    assert slow.params.start.context.shape == (CONTEXT,)
    assert trees.squared_norm(loss_and_gradient(learner, slow)[1].start.context) > 0


def test_reptile_gradient_points_from_where_adaptation_ends_to_the_start():
    learner, plain = LEARNERS["reptile"](), LEARNERS["maml"]()
    slow = slow_of(learner)
    fast = plain.begin(key(), slow)
    for k in range(K):
        fast, _ = plain.adapt(key(), slow, fast, segment(k))
    difference = trees.subtract(slow.params.start.network, fast.weights)
    value, gradient = loss_and_gradient(learner, slow)
    assert distance(gradient.start.network, difference) < 1e-12
    assert jnp.allclose(value, trees.squared_norm(difference) / 2)


# --- iMAML


def test_nesterov_follows_optax():
    rule, twin = rules.nesterov(0.1, 0.9, clip=0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, 0.9, True))
    weights = same = slow_of(LEARNERS["maml"]()).params.start
    state, twin_state = rule.begin(weights), twin.init(weights)
    for step in range(3):
        gradient = trees.scale(0.3 * (step + 1), weights)  # the first is within the bound, the last beyond it
        weights, state = rule.update((), state, step, weights, gradient)
        updates, twin_state = twin.update(gradient, twin_state)
        same = optax.apply_updates(same, updates)
    assert distance(weights, same) < 1e-12


def test_each_problem_of_imaml_begins_with_no_velocity():
    learner = make(imaml.imaml, momentum=0.9)
    slow = slow_of(learner)
    fast, _ = learner.adapt(key(), slow, learner.begin(key(), slow), segment(0))
    weights = fast.weights
    second, _ = learner.adapt(key(), slow, fast, segment(1))
    at_rest = fast._replace(rule=learner.begin(key(), slow).rule, steps=jnp.zeros_like(fast.steps))
    again, _ = learner.adapt(key(), slow, at_rest, segment(1))
    assert distance(second.weights, again.weights) < 1e-12
    assert distance(second.weights, weights) > 1e-3
    moving = fast._replace(steps=jnp.ones_like(fast.steps))  # as if in the midst of a problem: the velocity counts
    assert distance(learner.adapt(key(), slow, moving, segment(1))[0].weights, again.weights) > 1e-3


STRENGTH = 2.0


def test_implicit_gradient_is_that_of_a_long_unroll():
    data = lifetime(segments=2)
    learner = make(imaml.imaml, rate=0.2, steps=200, strength=STRENGTH, iterations=50, tolerance=1e-9)
    problem = {"penalty": descent.proximal(STRENGTH), "bootstrap": descent.from_start}
    slow = slow_of(learner)
    value, gradient = loss_and_gradient(learner, slow, data)
    long_value, long = loss_and_gradient(make(descent.maml, rate=0.2, steps=200, **problem), slow, data)
    _, first_order = loss_and_gradient(make(descent.fomaml, rate=0.2, steps=200, **problem), slow, data)
    assert jnp.allclose(value, long_value, rtol=1e-12, atol=0)
    assert distance(gradient, long) < 1e-8
    assert distance(first_order, long) > 1e-2
    few = make(imaml.imaml, rate=0.2, steps=200, strength=STRENGTH, iterations=1)
    assert distance(loss_and_gradient(few, slow, data)[1], long) > 1e-3


def temporaries(learner):
    slow, data = slow_of(learner), lifetime(segments=2)
    gradient = jax.grad(lambda params: learner.loss(key(), slow._replace(params=params), data)[0])
    return jax.jit(gradient).lower(slow.params).compile().memory_analysis().temp_size_in_bytes


def test_implicit_memory_does_not_grow_with_the_steps():
    few, many = (temporaries(make(imaml.imaml, steps=steps)) for steps in (2, 50))
    assert many <= 1.01 * few
    few, many = (temporaries(make(descent.maml, steps=steps)) for steps in (2, 50))
    assert many > 2 * few


def test_a_problem_that_is_not_solved_is_reported():
    for steps, solved in ((2, False), (100, True)):
        learner = make(imaml.imaml, rate=0.2, steps=steps, tolerance=1e-3)
        slow = slow_of(learner)
        fast, first = learner.adapt(key(), slow, learner.begin(key(), slow), segment(0))
        _, second = learner.adapt(key(), slow, fast, segment(1))
        _, of_loss = learner.loss(key(), slow, lifetime(segments=2))
        for info in (first, second, of_loss):
            assert (info["residual"] <= 1e-3) == solved
            assert info["unconverged"] == 1.0 - solved
        assert jnp.allclose(of_loss["residual"], first["residual"], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bootstrap": descent.from_current},
        {"strength": -1.0},
        {"iterations": 0},
        {"tolerance": -1.0},
        {"clip": -1.0},
        {"momentum": 2.0},
    ],
)
def test_what_imaml_refuses(wrong):
    with pytest.raises(Misuse) as caught:
        make(imaml.imaml, **wrong)
    assert ";" in str(caught.value)


@pytest.mark.parametrize("over", [0, -1.0, float("nan")])
def test_what_annealing_refuses(over):
    with pytest.raises(Misuse):
        make(maml_plus_plus.maml_plus_plus, count=COUNT, over=over)


def test_measures_average_losses_and_infos_alike():
    twin = make(descent.maml)
    slow = slow_of(twin)
    start = fast = twin.begin(key(), slow)

    def scores(fast, k):
        value = td_loss(LOSS, NETWORK, descent.Policy(fast.weights, None), slow.target.start, segment(k))
        return jnp.stack([value, jnp.sqrt(trees.squared_norm(trees.subtract(fast.weights, start.weights)))])

    unadapted, adapted = [scores(start, k) for k in range(K)], []
    for k in range(K - 1):
        fast, _ = twin.adapt(key(), slow, fast, segment(k))
        adapted.append(scores(fast, k + 1))
    for measure, expected in ((before, unadapted), (throughout, adapted), (after, adapted[-1:])):
        learner = descent.descend(
            NETWORK, LOSS, LOSS, rule=rules.sgd(RATE), steps=STEPS, measure=measure, target=descent.plain_target
        )
        value, info = learner.loss(key(), slow, lifetime())
        assert jnp.allclose(jnp.stack([value, info["moved"]]), jnp.stack(expected).mean(0), rtol=1e-12, atol=0)


def test_what_a_rule_reports_is_told_by_adapt_and_loss():
    rule = rules.sgd(0.25)._replace(report=lambda state: {"answer": jnp.asarray(42.0)})
    learner = descent.descend(NETWORK, LOSS, LOSS, rule=rule, steps=1)
    slow = slow_of(learner)
    assert learner.adapt(key(), slow, learner.begin(key(), slow), segment(0))[1]["answer"] == 42
    assert learner.loss(key(), slow, lifetime())[1]["answer"] == 42


def test_a_penalty_holds_the_weights_near_the_start():
    free, held = make(descent.maml), make(descent.maml, penalty=descent.proximal(2.0))
    slow, moved = slow_of(free), []
    for learner in (free, held):
        fast = learner.begin(key(), slow)
        for k in range(K):
            fast, _ = learner.adapt(key(), slow, fast, segment(k))
        moved.append(trees.squared_norm(trees.subtract(fast.weights, slow.params.start.network)))
    assert 0 < moved[1] < 0.9 * moved[0]
