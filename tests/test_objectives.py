"""The outer step: which tasks it counts, by which rate and exploration, and when it warns."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metadqn_jax import networks, programs
from metadqn_jax.catalog import LEARNERS
from metadqn_jax.checks import Misuse
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.base import MetaLearner, first_slow, forget
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.training import chunked_gradient, cvar, drive, make_trainer
from metadqn_jax.types import Lifetime, Span, Transition

B, KEY = 6, 7


def noisy_loss(key, slow, lifetime):
    """Which tasks are the worst is a matter of the keys."""
    return jax.random.uniform(key) * (10.0 + (slow.params @ lifetime.task) ** 2), {"seen": jnp.ones(())}


def problem():
    learner = MetaLearner(lambda key: (jnp.array([1.0, -0.5, 2.0]), ()), *[lambda *_: None] * 3, noisy_loss, forget)
    experience = Transition(*[jnp.zeros((B, 2, 1, 1))] * 6)
    return learner, Lifetime(jax.random.normal(jax.random.key(1), (B, 3)), experience)


def losses_of(params, slow, lifetimes):
    keys = [jax.random.fold_in(jax.random.key(KEY), i) for i in range(B)]
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], lifetimes) for i in range(B)]
    return jnp.stack([noisy_loss(key, slow._replace(params=params), one)[0] for key, one in zip(keys, each, strict=True)])


def exact_cvar(losses, alpha):
    """min over c of c + E[(loss − c)₊] / α, which is attained at a loss (Rockafellar & Uryasev 2000, eq. 4)."""
    above = jnp.maximum(losses[None] - losses[:, None], 0.0)
    return jnp.min(losses + above.sum(1) / (alpha * B))


@pytest.mark.parametrize("chunk", [1, 2, B])
@pytest.mark.parametrize("alpha", [1 / B, 0.25, 0.4, 0.5, 1.0])
def test_the_gradient_is_that_of_the_exact_cvar(alpha, chunk):
    learner, lifetimes = problem()
    slow = first_slow(learner, jax.random.key(0))
    (value, infos), gradient = chunked_gradient(jax.random.key(KEY), learner, slow, lifetimes, chunk, cvar(alpha))
    losses = losses_of(slow.params, slow, lifetimes)
    expected = jax.grad(lambda params: exact_cvar(losses_of(params, slow, lifetimes), alpha))(slow.params)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, exact_cvar(losses, alpha), rtol=1e-5)
    np.testing.assert_allclose([infos["loss"], infos["seen"]], [losses.mean(), 1.0], rtol=1e-5)


def test_all_tasks_are_the_mean_and_the_fewest_are_the_worst():
    learner, lifetimes = problem()
    slow = first_slow(learner, jax.random.key(0))

    def gradient(objective):
        return chunked_gradient(jax.random.key(KEY), learner, slow, lifetimes, 3, objective)[1]

    def mean(params):
        return losses_of(params, slow, lifetimes).mean()

    np.testing.assert_allclose(gradient(None), jax.grad(mean)(slow.params), rtol=1e-5)
    np.testing.assert_allclose(gradient(cvar(1.0)), gradient(None), rtol=1e-5)
    worst = jax.grad(lambda params: losses_of(params, slow, lifetimes).max())(slow.params)
    np.testing.assert_allclose(gradient(cvar(1 / B)), worst, rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.77, 1.0])
def test_weights_sum_to_one_and_fall_with_the_loss(alpha):
    losses = jax.random.normal(jax.random.key(2), (B,))
    weights = np.asarray(cvar(alpha)(losses))
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(weights[np.argsort(losses)]) >= 0).all()


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1, np.nan])
def test_shares_that_are_none(alpha):
    with pytest.raises(Misuse, match="share of worst tasks"):
        cvar(alpha)


def test_a_trainer_reports_its_objective_and_the_mean_loss():
    family = navigation()
    parts = programs.make_parts(family.split.train, family.recipe, lambda spec: networks.mlp(spec, hidden=(4,)))
    learner = LEARNERS["multitask"].trained(parts, 1)

    def metrics(objective):
        sizes = {"explore": by_segment(1.0), "optimizer": optax.sgd(0.1), "meta_batch": 4, "objective": objective}
        trainer = make_trainer(learner, family.split.train, Span(1, 2, 1), **sizes)
        return jax.jit(trainer.step)(jax.random.key(1), trainer.init(jax.random.key(0)))[1]

    mean, worst = metrics(None), metrics(cvar(0.25))
    assert mean["objective"] == mean["loss"]
    assert worst["objective"] > worst["loss"]
    np.testing.assert_allclose(worst["loss"], mean["loss"], rtol=1e-5)


def test_the_outer_rate_warms_up_and_falls():
    recipe = dataclasses.replace(navigation().recipe, outer_steps=4, outer_rate=0.1, warmup=2, last_rate=0.5, outer_clip=1.0)
    optimizer = programs.make_optimizer(recipe)
    state, changes = optimizer.init(jnp.zeros(())), []
    for gradient in (100.0, 1.0, 1.0, 1.0, 1.0):  # Adam's step is the rate where all gradients are clipped to one norm
        change, state = optimizer.update(jnp.float32(gradient), state)
        changes.append(float(change))
    cosine = 0.5 + 0.25 * (1 + np.cos(np.pi * np.arange(5) / 4))
    np.testing.assert_allclose(changes, -0.1 * cosine * [0.5, 1, 1, 1, 1], rtol=1e-4)


def test_exploration_falls_over_the_outer_steps():
    changes = {"span": Span(3, 1, 1), "outer_steps": 10, "query_epsilon": 0.5, "last_epsilon": 0.1}
    recipe = dataclasses.replace(navigation().recipe, **changes)
    explore = programs.make_explore(recipe)
    assert [float(explore(0, k, 0)) for k in (0, 1, 2, 3)] == [1.0, 1.0, 0.5, 0.5]
    np.testing.assert_allclose([float(explore(step, 2, 0)) for step in (5, 10, 20)], [0.3, 0.1, 0.1], rtol=1e-6)
    everywhere = programs.make_explore(dataclasses.replace(recipe, support_epsilon=None))
    np.testing.assert_allclose([float(everywhere(5, k, 0)) for k in (0, 2)], [0.3, 0.3], rtol=1e-6)


def run(shares):
    metrics = iter(shares)
    return list(drive(lambda state, size: (state, {"unconverged": jnp.full(size, next(metrics))}), None, len(shares) * 2, 2))


def test_short_inner_solves_are_told_once():
    with pytest.warns(UserWarning, match="stopped short") as told:
        assert len(run([0.4, 0.6, 0.9, 0.2, 0.9])) == 5
    assert len(told) == 1
    run([0.5, 0.1])  # a warning would be an error
