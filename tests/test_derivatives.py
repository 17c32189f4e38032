"""Meta-gradients in float64 against central finite differences, with a smooth activation and stored data."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.flatten_util import ravel_pytree

from metadqn_jax import networks, td
from metadqn_jax.actions import Support, discrete
from metadqn_jax.derivative import first_order, implicit, unrolled
from metadqn_jax.learners import anil, cavia, descent, imaml, maml_plus_plus, meta_sgd, rules
from metadqn_jax.learners.base import after, annealed, before, first_slow, throughout
from metadqn_jax.types import Lifetime, Spec, Transition

K, T, E, A = 3, 5, 2, 3


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def lifetime():
    keys = jax.random.split(jax.random.key(1), 6)
    shape = (K, T, E)
    return Lifetime(
        (),
        Transition(
            obs=jax.random.normal(keys[0], (*shape, 2), jnp.float64),
            action=jax.random.randint(keys[1], shape, 0, A),
            reward=jax.random.normal(keys[2], shape, jnp.float64),
            next_obs=jax.random.normal(keys[3], (*shape, 2), jnp.float64),
            terminated=jax.random.bernoulli(keys[4], 0.2, shape),
            truncated=jax.random.bernoulli(keys[5], 0.2, shape),
        ),
    )


def parts(head=None, select=td.greedy, regression=td.squared, context=0):
    head = head or discrete(A)
    spec = Spec(jax.ShapeDtypeStruct((2,), jnp.float64), head)
    network = networks.mlp(spec, hidden=(4,), activation=nn.tanh, context=context)
    return network, td.temporal_difference(head, select=select, target=td.lambda_return(0.9, 0.7), regression=regression)


def build(head=None, select=td.greedy, regression=td.squared, **choices):
    network, loss = parts(head, select, regression)
    sizes = {"rule": rules.sgd(0.3, clip=0.5), "steps": 2, "derivative": unrolled, "measure": throughout}
    return descent.descend(network, loss, loss, **{**sizes, **choices})


def double_params(learner):
    slow = first_slow(learner, jax.random.key(0))
    slow = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, slow)
    noise = jax.random.normal(jax.random.key(9), (ravel_pytree(slow.params)[0].size,), jnp.float64)
    flat, unravel = ravel_pytree(slow.target)
    return slow._replace(target=unravel(flat + 0.3 * noise))  # a target network of its own


def gradients(learner, spread=0.0):
    """(∂loss along a random direction by jax.grad, the same by central differences), `spread` away from the start."""
    slow = double_params(learner)._replace(step=jnp.int32(3))
    flat, unravel = ravel_pytree(slow.params)
    flat = flat + spread * jax.random.normal(jax.random.key(4), flat.shape, jnp.float64)
    data = lifetime()
    loss = jax.jit(lambda flat: learner.loss(jax.random.key(0), slow._replace(params=unravel(flat)), data)[0])
    direction = jax.random.normal(jax.random.key(3), flat.shape, jnp.float64)
    step = 1e-5
    numeric = (loss(flat + step * direction) - loss(flat - step * direction)) / (2 * step)
    return jnp.vdot(jax.jit(jax.grad(loss))(flat), direction), numeric


def relative(a, b):
    return float(abs(a - b) / abs(b))


BOOTSTRAPS = [descent.from_current, descent.from_start, descent.from_target]
TARGETS = [descent.plain_target, descent.own_target]
REGRESSIONS = {
    "squared": (discrete(A), td.squared),
    "huber": (discrete(A), td.huber(0.7)),
    "hl_gauss": (discrete(A, Support(-3.0, 3.0, 7)), td.hl_gauss()),
}


@pytest.mark.parametrize("bootstrap", BOOTSTRAPS)
@pytest.mark.parametrize("regression", REGRESSIONS)
def test_second_order_gradient_equals_finite_differences(bootstrap, regression):
    head, regress = REGRESSIONS[regression]
    learner = build(head, regression=regress, bootstrap=bootstrap)
    assert relative(*gradients(learner)) < 1e-6


SELECTS = {"double": td.double, "expected": td.expected_sarsa(0.5), "munchausen": td.munchausen(0.5, floor=-5.0)}


@pytest.mark.parametrize("select", SELECTS)
def test_second_order_gradient_through_every_select(select):
    assert relative(*gradients(build(select=SELECTS[select]))) < 1e-6


RULES = {
    "learnt_sgd": meta_sgd.learnt_sgd(0.3, clip=0.5),
    "layer_step_sgd": maml_plus_plus.layer_step_sgd(0.3, count=3, clip=0.5),
}


@pytest.mark.parametrize("rule", RULES)
def test_second_order_gradient_through_every_rule_and_its_rates(rule):
    """Rates that differ from one another, and other ones in the target."""
    assert relative(*gradients(build(rule=RULES[rule]), spread=0.1)) < 1e-6


@pytest.mark.parametrize("measure", [before, after, annealed(10)])
def test_second_order_gradient_of_every_measure(measure):
    assert relative(*gradients(build(measure=measure))) < 1e-6


def test_second_order_gradient_with_a_penalty():
    assert relative(*gradients(build(penalty=descent.proximal(0.5)))) < 1e-6


LEARNERS = {
    "anil": (anil.anil, {}),
    "meta_sgd": (meta_sgd.meta_sgd, {}),
    "maml_plus_plus": (maml_plus_plus.maml_plus_plus, {"count": 4, "over": 10}),
    "cavia": (cavia.cavia, {}),
    "cavia_learnt_sgd": (cavia.cavia, {"rule": meta_sgd.learnt_sgd}),
    "imaml": (imaml.imaml, {"steps": 300, "iterations": 50, "tolerance": 1e-12}),
    "imaml_target": (
        imaml.imaml,
        {"steps": 300, "iterations": 50, "tolerance": 1e-12, "bootstrap": descent.from_target},
    ),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_gradient_of_every_learner_equals_finite_differences(name):
    factory, choices = LEARNERS[name]
    network, loss = parts(context=2)
    learner = factory(network, inner=loss, outer=loss, **{"rate": 0.2, "steps": 2, **choices})
    assert relative(*gradients(learner)) < 1e-6


def test_an_implicit_gradient_short_of_the_solution_differs():
    network, loss = parts()
    learner = imaml.imaml(network, inner=loss, outer=loss, rate=0.2, steps=2, iterations=50, tolerance=1e-12)
    assert relative(*gradients(learner)) > 1e-3


def test_the_one_iterate_of_an_implicit_solve_is_its_solution():
    def gradient(fast, given):
        return fast.weights - given

    def update(fast, given, g):
        return fast._replace(weights=fast.weights - 0.5 * g)

    def solve(given):
        start = descent.Descending(jnp.zeros(2), (), jnp.zeros(()))
        return implicit(5, 1e-9)(gradient, update, 60)(start, given)

    last, iterates = solve(jnp.array([1.0, 2.0]))
    assert jnp.allclose(last.weights, jnp.array([1.0, 2.0]), rtol=1e-12)
    assert (iterates.weights == last.weights[None]).all()
    assert jnp.allclose(jax.jacobian(lambda given: solve(given)[0].weights)(jnp.array([1.0, 2.0])), jnp.eye(2))


def test_only_who_differentiates_an_implicit_solve_solves_a_system():
    start = descent.Descending(jnp.zeros(2), (), jnp.zeros(()))

    def total(given):
        solve = implicit(5, 1e-9)(lambda fast, given: fast.weights - given, lambda fast, given, g: fast, 60)
        return solve(start, given)[0].weights.sum()

    for function, differentiated in ((total, False), (jax.grad(total), True)):
        assert ("while[" in str(jax.make_jaxpr(function)(jnp.ones(2)))) == differentiated


def test_stopped_bootstrap_differs_from_the_true_gradient():
    exact, numeric = gradients(build(bootstrap=descent.from_stopped))
    assert relative(exact, numeric) > 1e-3


@pytest.mark.parametrize("target", TARGETS)
def test_outer_target_is_a_constant(target):
    """The gradient does not see through the outer target, so only a target that no parameter moves agrees with differences."""
    exact, numeric = gradients(build(target=target))
    moves = target is descent.own_target
    assert (relative(exact, numeric) < 1e-6) != moves


def test_first_order_is_the_gradient_at_the_adapted_point_and_not_the_full_one():
    full, first = build(measure=descent.after), build(measure=descent.after, derivative=first_order)
    slow, data = double_params(full), lifetime()
    key = jax.random.key(0)

    def gradient(learner, slow):
        return jax.grad(lambda params: learner.loss(key, slow._replace(params=params), data)[0])(slow.params)

    fast, shade = full.begin(key, slow), full.begin(key, slow._replace(params=slow.target))
    for k in range(K - 1):
        segment = jax.tree.map(lambda leaf, k=k: leaf[k], data.experience)
        fast, _ = full.adapt(key, slow, fast, segment)
        shade, _ = full.adapt(key, slow._replace(params=slow.target), shade, segment)
    adapted = slow._replace(
        params=descent.Learnt(descent.Policy(fast.weights, None), ()),
        target=descent.Learnt(descent.Policy(shade.weights, None), ()),
    )
    still = build(measure=lambda fast, advance, score, experience, step: score(fast, jax.tree.map(lambda x: x[-1], experience)))
    at_adapted = gradient(still, adapted)
    for a, b, c in zip(*map(jax.tree.leaves, (gradient(first, slow), at_adapted, gradient(full, slow))), strict=True):
        assert jnp.allclose(a, b, rtol=1e-9)
        assert not jnp.allclose(a, c, rtol=1e-3)


def test_integer_data_gets_a_float0_cotangent():
    learner = build()
    slow = double_params(learner)
    pull = jax.vjp(lambda data: learner.loss(jax.random.key(0), slow, data)[0], lifetime())[1]
    (cotangent,) = pull(jnp.ones(()))
    assert cotangent.experience.action.dtype == jax.dtypes.float0
    assert cotangent.experience.terminated.dtype == jax.dtypes.float0


def test_a_rate_of_zero_does_not_adapt():
    learner = build(rule=rules.sgd(0.0))
    slow = double_params(learner)
    fast = learner.begin(jax.random.key(0), slow)
    adapted, info = learner.adapt(jax.random.key(0), slow, fast, jax.tree.map(lambda leaf: leaf[0], lifetime().experience))
    assert info["moved"] == 0
    for a, b in zip(jax.tree.leaves(adapted.weights), jax.tree.leaves(fast.weights), strict=True):
        assert (a == b).all()
