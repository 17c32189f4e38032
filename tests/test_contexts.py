"""Learners that infer a context: PEARL's set of factors, VariBAD's decoded belief, MQL's propensities."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

from metadqn_jax import networks, replay, td, trees
from metadqn_jax.actions import discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.learners.base import check_learner, first_slow, td_loss
from metadqn_jax.learners.mql import effective_size, mql, propensity
from metadqn_jax.learners.pearl import Gaussian, Natural, divergence, draw, gaussian_of, pearl, unit
from metadqn_jax.learners.rl2 import rl2
from metadqn_jax.learners.varibad import belief, gaussian, told, varibad
from metadqn_jax.memories.gru import gru
from metadqn_jax.types import Lifetime, Span, Spec, Transition

A, LATENT, WIDTH, LENGTH, K, T = 3, 2, 4, 12, 3, 4
HEAD = discrete(A)
SPEC = Spec(jax.ShapeDtypeStruct((2,), jnp.float32), HEAD)
SPANS = {"pearl": Span(K, T, 2), "varibad": Span(LENGTH, 1, 1), "mql": Span(K, T, 1)}
MEMORY = gru(SPEC, WIDTH)
LOSS = td.temporal_difference(HEAD, select=td.double, target=td.lambda_return(0.9, 0.7), regression=td.squared)


def reading(context):
    return networks.mlp(SPEC, hidden=(8,), context=context)


def make_pearl(**choices):
    return pearl(reading(LATENT), SPEC, loss=LOSS, hidden=(8,), **choices)


def make_varibad(**choices):
    return varibad(reading(2 * LATENT), MEMORY, SPEC, loss=lambda step: LOSS, length=LENGTH, hidden=(8,), moments=4, **choices)


def make_mql(steps=2, span=SPANS["mql"], **choices):
    return mql(reading(WIDTH), MEMORY, SPEC, loss=LOSS, span=span, steps=steps, rate=0.05, capacity=4, **choices)


LEARNERS = {"pearl": make_pearl, "varibad": make_varibad, "mql": make_mql}


def experience(*shape, seed=0):
    """A random Transition [*shape]."""
    rng = np.random.default_rng(seed)
    normal = lambda *more: jnp.asarray(rng.normal(size=(*shape, *more)), jnp.float32)  # noqa: E731
    flags = lambda: jnp.asarray(rng.random(shape) < 0.2)  # noqa: E731
    return Transition(normal(2), jnp.asarray(rng.integers(A, size=shape), jnp.int32), normal(), normal(2), flags(), flags())


def started(learner, seed=0):
    """A slow state whose target network differs from its parameters."""
    slow = jax.jit(lambda key: trees.strengthen(first_slow(learner, key)))(jax.random.key(seed))
    other = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size).reshape(leaf.shape)), slow.params)
    return slow._replace(target=other)


def adapted(learner, slow, segments):
    """The fast state after a list of segments."""

    def through(slow, segments):
        fast = learner.begin(jax.random.key(1), slow)
        for i, segment in enumerate(segments):
            fast, _ = learner.adapt(jax.random.fold_in(jax.random.key(2), i), slow, fast, segment)
        return fast

    return jax.jit(through)(slow, segments)


def close(a, b, tolerance=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def differ(a, b, tolerance=1e-3):
    return any(np.abs(np.subtract(x, y)).max() > tolerance for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def part(tree, *index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


# --- all three


@pytest.mark.parametrize("name", LEARNERS)
def test_the_functions_fit_together_and_gradients_are_finite(name):
    learner, span = LEARNERS[name](), SPANS[name]
    lifetimes = Lifetime((), experience(2, span.segments, span.steps, span.streams))
    segment, one = trees.shapes(part(lifetimes.experience, 0, 0)), trees.shapes(part(lifetimes, 0))
    check_learner(learner, SPEC, segment, one, trees.shapes(lifetimes))
    slow = started(learner)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda params: learner.loss(jax.random.key(0), slow._replace(params=params), part(lifetimes, 0))[0])(
            params
        )

    found = gradient(slow.params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(found) if leaf.ndim == 2)  # every matrix is trained
    memory = learner.remember(jax.random.key(0), slow, lifetimes)
    assert trees.shapes(memory) == trees.shapes(slow.memory)


@pytest.mark.parametrize("name", ["rl2", "varibad", "mql"])
def test_a_recurrent_belief_depends_on_the_order_of_transitions(name):
    makers = {**LEARNERS, "rl2": lambda: rl2(reading(WIDTH), MEMORY, loss=lambda step: LOSS, length=LENGTH)}
    learner, seen = makers[name](), experience(4, 1, 1)
    slow, order = started(learner), [part(seen, i) for i in range(4)]
    first, last = adapted(learner, slow, order), adapted(learner, slow, order[::-1])
    assert differ(first.state, last.state)


@pytest.mark.parametrize("name", ["varibad", "mql"])
def test_parallel_streams_are_refused(name):
    learner = LEARNERS[name]()
    two = experience(1, 2)
    slow = started(learner)
    with pytest.raises(Misuse, match=r"got span.streams=2; set it to 1"):
        learner.adapt(jax.random.key(0), slow, learner.begin(jax.random.key(1), slow), two)
    with pytest.raises(Misuse, match=r"got span.streams=2; set it to 1"):
        learner.loss(jax.random.key(0), slow, Lifetime((), experience(LENGTH, 1, 2)))


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: pearl(reading(0), SPEC, loss=LOSS), "read a vector as its context, got None"),
        (lambda: varibad(reading(3), MEMORY, SPEC, loss=lambda step: LOSS, length=9), r"got context=\(3,\); make it even"),
        (lambda: varibad(reading(4), MEMORY, SPEC, loss=lambda step: LOSS, length=7), "at most the trial's length 7, got 8"),
        (lambda: make_mql(span=Span(K, T, 2)), "got span.streams=2"),
        (lambda: make_mql(span=Span(1, T, 1)), "got span.segments=1"),
        (lambda: make_mql(steps=-1), "steps must be a whole number of at least 0"),
    ],
)
def test_misfits_are_refused(build, sentence):
    with pytest.raises(Misuse, match=sentence):
        build()


# --- Gaussians


def test_a_divergence_is_the_integral_of_the_log_ratio():
    a, b = Gaussian(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.4])), Gaussian(jnp.array([0.1, 0.2]), jnp.array([0.2, 0.0]))
    z = jnp.linspace(-12.0, 12.0, 4001)[:, None]
    log_a, log_b = (norm.logpdf(z, g.mean[None], jnp.exp(g.log_variance / 2)[None]) for g in (a, b))
    close(divergence(a, b), jnp.sum(jnp.exp(log_a) * (log_a - log_b)) * 24 / 4000, 1e-4)
    close(divergence(a, a), 0.0)


def test_the_product_of_gaussians_is_proportional_to_the_product_of_their_densities():
    rng = np.random.default_rng(0)
    mean, variance = jnp.asarray(rng.normal(size=5), jnp.float32), jnp.asarray(rng.uniform(0.3, 2.0, 5), jnp.float32)
    product = gaussian_of(Natural(jnp.sum(mean / variance), jnp.sum(1 / variance)))
    z = jnp.linspace(-2.0, 2.0, 9)
    densities = norm.logpdf(z[:, None], mean[None], jnp.sqrt(variance)[None]).sum(1)
    apart = densities - norm.logpdf(z, product.mean, jnp.exp(product.log_variance / 2))
    close(apart, jnp.full(9, apart[0]), 1e-4)


# --- PEARL


def test_pearls_posterior_depends_neither_on_order_nor_on_segments():
    learner, seen = make_pearl(), experience(K, T, 2)
    slow, flat = started(learner), trees.flatten_axes(seen, 3)
    shuffled = part(flat, np.random.default_rng(1).permutation(K * T * 2))
    by_segments = adapted(learner, slow, [part(seen, k) for k in range(K)])
    at_once = adapted(learner, slow, [jax.tree.map(lambda leaf: leaf[:, None], shuffled)])
    close(by_segments.posterior, at_once.posterior, 1e-4)
    assert differ(by_segments.posterior, adapted(learner, slow, [part(seen, 0)]).posterior)


def test_pearl_acts_on_draws_from_the_prior_and_then_the_posterior():
    learner = make_pearl()
    slow = started(learner)
    fast = adapted(learner, slow, [experience(T, 2)])

    @jax.jit
    @jax.vmap
    def draws(key):
        key_begin, key_adapt = jax.random.split(key)
        first = learner.begin(key_begin, slow)
        return first.z, learner.adapt(key_adapt, slow, first, experience(T, 2))[0].z

    for z, expected in zip(
        draws(jax.random.split(jax.random.key(3), 4000)), (unit(LATENT), gaussian_of(fast.posterior)), strict=True
    ):
        spread = jnp.exp(expected.log_variance / 2)
        assert (jnp.abs(z.mean(0) - expected.mean) < 5 * spread / 4000**0.5).all()
        close(z.std(0), spread, 0.06)


def test_pearls_loss_scores_each_segment_with_the_posterior_that_adapt_gives_before_it():
    learner, network, seen = make_pearl(kl=0.3), reading(LATENT), experience(K, T, 2)
    slow, key = started(learner), jax.random.key(4)
    total = 0.0
    for k in range(K):
        posterior = gaussian_of(adapted(learner, slow, [part(seen, i) for i in range(k)]).posterior)
        z = draw(jax.random.fold_in(key, k), posterior)
        total += td_loss(LOSS, network, (slow.params.network, z), (slow.target.network, z), part(seen, k))
        total += 0.3 * divergence(posterior, unit(LATENT))
    close(jax.jit(learner.loss)(key, slow, Lifetime((), seen))[0], total / K, 1e-4)


# --- VariBAD


def varibads_gradient(weight):
    learner = make_varibad(weight=weight)
    slow, lifetime = started(learner), Lifetime((), experience(LENGTH, 1, 1))
    return jax.jit(jax.grad(lambda p: learner.loss(jax.random.key(0), slow._replace(params=p), lifetime)[0]))(slow.params)


def test_only_decoding_trains_varibads_encoder_and_only_the_td_loss_its_network():
    without, with_decoding = varibads_gradient(0.0), varibads_gradient(1.0)
    nothing = trees.zeros(trees.shapes(without.actor.memory))
    close(without.actor.memory, nothing)
    assert differ(with_decoding.actor.memory, nothing)
    close(without.actor.network, with_decoding.actor.network)
    assert differ(without.actor.network, trees.zeros(trees.shapes(without.actor.network)))


def test_what_acts_is_rl2_with_the_belief_as_its_memory():
    learner, twin = (
        make_varibad(),
        rl2(reading(2 * LATENT), told(belief(MEMORY, LATENT)), loss=lambda step: LOSS, length=LENGTH),
    )
    slow, seen = started(learner), experience(LENGTH, 1, 1)
    acting = slow._replace(params=slow.params.actor, target=slow.target.actor)
    fast, order = None, [part(seen, t) for t in range(5)]
    fast, other = adapted(learner, slow, order), adapted(twin, acting, order)
    close(learner.q(slow, fast, seen.obs[5, 0, 0]), twin.q(acting, other, seen.obs[5, 0, 0]))


def test_varibads_rewards_are_centred_only_where_that_is_asked():
    learner, lives = make_varibad(centred=False), Lifetime((), trees.lift(experience(LENGTH, 1, 1)))
    assert not learner.remember(jax.random.key(0), started(learner), lives).any()


def test_varibads_divergence_goes_from_each_belief_to_the_one_before_it():
    learner, encoder, seen = make_varibad(), belief(MEMORY, LATENT), experience(LENGTH, 1, 1)
    slow = started(learner)
    params, earlier, total = slow.params.actor.memory, unit(LATENT), 0.0
    state = encoder.begin(params)
    for t in range(LENGTH):
        now = gaussian(encoder.read(params, state, seen.obs[t, 0, 0]))
        total, earlier = total + divergence(now, earlier), now
        state = encoder.step(params, state, part(seen, t, 0, 0))
    info = jax.jit(learner.loss)(jax.random.key(0), slow, Lifetime((), seen))[1]
    close(info["divergence"], total / LENGTH)


def test_varibads_decoders_learn_a_fixed_lifetime():
    learner, lifetime, optimizer = make_varibad(), Lifetime((), experience(LENGTH, 1, 1)), optax.adam(3e-2)
    slow = started(learner)

    @jax.jit
    def train(params):
        def step(carry, i):
            params, state = carry
            key = jax.random.fold_in(jax.random.key(5), i)
            gradient, info = jax.grad(lambda p: learner.loss(key, slow._replace(params=p), lifetime), has_aux=True)(params)
            change, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, change), state), info["decoding"]

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(50))[1]

    errors = train(slow.params)
    assert errors[-5:].mean() < 0.5 * errors[:5].mean()


# --- MQL


def remembering(learner, slow, lifetimes=3):
    stored = Lifetime((), experience(lifetimes, K, T, 1, seed=7))
    return slow._replace(memory=learner.remember(jax.random.key(0), slow, stored))


def contexts(slow, segments):
    """The memory's states before each segment and after the last, by a plain loop."""
    state, states = MEMORY.begin(slow.params.memory), []
    for segment in segments:
        states.append(state)
        for t in range(T):
            state = MEMORY.step(slow.params.memory, state, part(segment, t, 0))
    return [*states, state]


def test_with_no_steps_mql_is_its_context_learner_and_reads_no_store():
    learner, network, seen = make_mql(0), reading(WIDTH), experience(K, T, 1)
    slow = started(learner)
    segments = [part(seen, k) for k in range(K)]
    states = contexts(slow, segments)
    spoilt = slow._replace(
        memory=slow.memory._replace(items=slow.memory.items._replace(reward=jnp.full((4, K, T, 1), jnp.nan)))
    )
    fast = adapted(learner, spoilt, segments)
    jax.tree.map(np.testing.assert_array_equal, fast.weights, slow.params.network)
    close(fast.state, states[-1])
    total = 0.0
    for state, segment in zip(states, segments, strict=False):
        total += td_loss(LOSS, network, (slow.params.network, state), (slow.target.network, state), segment)
    close(jax.jit(learner.loss)(jax.random.key(0), slow, Lifetime((), seen))[0], total / K, 1e-4)


def tuned(steps, slow, segments=1, **choices):
    learner = make_mql(steps, clip=1e9, **choices)
    return adapted(learner, slow, segments * [experience(T, 1)]).weights


def test_the_proximal_term_pulls_mql_to_its_start_when_no_stored_transition_counts():
    """With rate · strength = 1 the second segment's step takes back all of the first's, and adds its own."""
    slow = started(make_mql())
    one, free, pulled = tuned(1, slow), tuned(1, slow, 2, strength=0.0), tuned(1, slow, 2, strength=20.0)
    close(trees.subtract(free, pulled), trees.subtract(one, slow.params.network))
    assert differ(one, slow.params.network)


def test_where_all_contexts_are_alike_mql_takes_stored_transitions_in_full_and_is_not_pulled():
    learner, network = make_mql(), reading(WIDTH)
    slow = remembering(learner, started(learner))
    deaf = trees.zeros(trees.shapes(slow.params.memory))
    slow = slow._replace(params=slow.params._replace(memory=deaf))
    close(tuned(2, slow, strength=0.0), tuned(2, slow, strength=20.0))
    stored, state = part(slow.memory.items, slice(0, 3)), jnp.zeros(WIDTH)

    def objective(weights):
        one = lambda segment: td_loss(LOSS, network, (weights, state), (slow.target.network, state), segment)  # noqa: E731
        return one(experience(T, 1)) + jnp.mean(jax.vmap(one)(trees.flatten_axes(stored, 2)))

    step = trees.scale(0.05, jax.jit(jax.grad(objective))(slow.params.network))
    close(tuned(1, slow), trees.subtract(slow.params.network, step))


def test_mql_stores_the_lifetimes_that_it_was_trained_on():
    learner = make_mql()
    slow = started(learner)
    many = Lifetime((), experience(6, K, T, 1))
    store = learner.remember(jax.random.key(0), slow, many)
    jax.tree.map(np.testing.assert_array_equal, store.items, part(many.experience, slice(0, 4)))
    assert isinstance(store, replay.Store)
    assert int(store.added) == 4


def naive_propensity(new, stored, ridge):
    x = np.concatenate([np.concatenate([new, stored]), np.ones((len(new) + len(stored), 1))], 1)
    y = np.repeat([1.0, 0.0], [len(new), len(stored)])
    mass = np.where(y == 1, 0.5 / len(new), 0.5 / len(stored))
    w = np.zeros(x.shape[1])
    for _ in range(20_000):
        w -= 0.5 * (x.T @ (mass * (1 / (1 + np.exp(-x @ w)) - y)) + ridge * w)
    return np.exp(x @ w)[len(new) :]


def test_propensities_are_those_of_a_naive_logistic_regression():
    rng = np.random.default_rng(0)
    new, stored = rng.normal(0.5, 0.5, (6, 3)), rng.normal(0.0, 0.7, (15, 3))
    expected = naive_propensity(new, stored, 0.02)
    new, padded = jnp.float32(new), jnp.float32(np.concatenate([stored, np.full((4, 3), 9.0)]))
    known = jnp.arange(19) < 15
    close(propensity(new, padded, known, ridge=0.02, bound=100.0), np.concatenate([expected, np.zeros(4)]), 1e-3)
    bounded = propensity(new, padded, known, ridge=0.02, bound=0.8)
    close(bounded, np.concatenate([np.minimum(expected, 0.8), np.zeros(4)]), 1e-3)
    close(effective_size(bounded, known), bounded.sum() ** 2 / (15 * (bounded**2).sum()))


@pytest.mark.parametrize(("beta", "size"), [([0.0, 0.0, 0.0], 0.0), ([1.0, 1.0, 0.0], 1.0), ([1.0, 0.0, 0.0], 0.5)])
def test_the_effective_size_of_two_stored_transitions(beta, size):
    assert effective_size(jnp.array(beta), jnp.array([True, True, False])) == size


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4, 1e8])
def test_contexts_of_any_size_have_propensities(size):
    rng = np.random.default_rng(1)
    new, stored = (jnp.float32(size * rng.normal(shift, 1.0, (count, 32))) for shift, count in ((0.5, 6), (0.0, 20)))
    beta = propensity(new, stored, jnp.ones(20, bool), ridge=0.01, bound=10.0)
    assert jnp.isfinite(beta).all()
    if size > 1.0:  # all are divided by their root mean squares
        close(beta, propensity(100 * new, 100 * stored, jnp.ones(20, bool), ridge=0.01, bound=10.0), 1e-3)


def test_separable_contexts_stay_finite():
    new, stored = jnp.full((2, 3), 50.0), jnp.full((4, 3), -50.0)
    beta = propensity(new, stored, jnp.ones(4, bool), ridge=1e-4, bound=1.0)
    assert jnp.isfinite(beta).all()
    assert (beta < 0.1).all()
