"""`live` against a Python loop, whole episodes, and the trainer's sums."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metadqn_jax import networks, programs, trees
from metadqn_jax.catalog import LEARNERS
from metadqn_jax.evaluation import adaptation_returns, optimal_returns, random_returns
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.base import first_slow
from metadqn_jax.living import episode_return, live
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.training import make_trainer, steps_together
from metadqn_jax.types import Span

SPAN = Span(segments=3, steps=25, streams=2)  # episodes end at 20: every stream restarts in every segment


@pytest.fixture(scope="module")
def house():
    family = navigation()
    parts = programs.make_parts(family.split.train, family.recipe, lambda spec: networks.mlp(spec, hidden=(8,)))
    learner = LEARNERS["maml"].trained(parts, 1)
    slow = trees.strengthen(first_slow(learner, jax.random.key(0)))
    return family, parts, learner, slow


@pytest.fixture(scope="module")
def life(house):
    family, _, learner, slow = house
    task = family.split.train.sample(jax.random.key(1))
    run = jax.jit(lambda key, task: live(key, learner, slow, family.split.train, task, SPAN, by_segment(0.0), repeats=2))
    return task, run(jax.random.key(2), task)


def test_a_greedy_lifetime_is_a_python_loop(house, life):
    """With ε = 0 and moves without noise, everything but the starts can be told from the first observation."""
    _, _, learner, slow = house
    task, lived = life
    seen = jax.tree.map(np.asarray, lived.lifetime.experience)
    adapt, q = jax.jit(learner.adapt), jax.jit(learner.q)
    fast = learner.begin(jax.random.key(0), slow)
    angles = np.arange(8) * np.pi / 4
    moves = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], 1), np.zeros((1, 2))])
    clock = np.zeros(SPAN.streams, int)
    position = seen.obs[0, 0].copy()
    fasts = [fast]
    for k in range(SPAN.segments):
        for t in range(SPAN.steps):
            for e in range(SPAN.streams):
                if clock[e] == 0:
                    position[e] = seen.obs[k, t, e]
                    assert np.abs(position[e]).max() <= 0.05
                np.testing.assert_allclose(seen.obs[k, t, e], position[e], atol=1e-5)
                action = int(np.argmax(q(slow, fast, seen.obs[k, t, e])))
                assert action == seen.action[k, t, e]
                position[e] = np.clip(position[e] + 0.15 * moves[action], -1.5, 1.5)
                clock[e] = (clock[e] + 1) % 20
                np.testing.assert_allclose(seen.next_obs[k, t, e], position[e], atol=1e-5)
                np.testing.assert_allclose(seen.reward[k, t, e], -np.linalg.norm(position[e] - task.goal), atol=1e-5)
                assert seen.truncated[k, t, e] == (clock[e] == 0)
                assert not seen.terminated[k, t, e]
        for _ in range(2):
            fast, _ = adapt(jax.random.key(0), slow, fast, jax.tree.map(lambda leaf, k=k: leaf[k], seen))
            fasts.append(fast)
    for i, expected in enumerate(fasts):
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(lived.fasts), strict=True):
            np.testing.assert_allclose(a, b[i], atol=1e-5)


def test_an_episode_counts_nothing_after_its_end(house):
    family, _, _, _ = house
    task = family.split.train.sample(jax.random.key(1))
    stay = jax.jit(
        lambda key, horizon: episode_return(key, lambda k, t, n, o: (n, jnp.int32(8)), family.split.train, task, horizon),
        static_argnums=1,
    )
    assert float(stay(jax.random.key(3), 20)) == pytest.approx(float(stay(jax.random.key(3), 55)), abs=1e-5)


def test_no_policy_beats_the_optimum_and_random_is_below_it(house):
    family, parts, _, slow = house
    tasks = sample_tasks(jax.random.key(4), family.split.test, 64)
    best = jax.jit(lambda: optimal_returns(jax.random.key(5), family.optimum, tasks))()
    blind = jax.jit(lambda: random_returns(jax.random.key(6), family.split.test, tasks, horizon=20))()
    sizes = {"span": Span(1, 20, 2), "explore": by_segment(1.0), "horizon": 20, "steps": (0, 2), "episodes": 2}
    learner = LEARNERS["maml"].tested(parts, 1)
    tested = jax.jit(lambda: adaptation_returns(jax.random.key(7), learner, slow, family.split.test, tasks, **sizes))()
    assert tested.shape == (64, 2)
    assert (best >= blind).all()
    assert (best[:, None] >= tested - 0.5).all()  # starts differ by at most 0.07 a step
    assert best.mean() == pytest.approx(-2.4, abs=0.3)
    assert blind.mean() == pytest.approx(-17.2, abs=2.0)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_the_gradient_does_not_depend_on_the_chunk(house, chunk):
    family, _, learner, _ = house
    span = Span(2, 3, 2)
    sizes = {"explore": by_segment(1.0, 0.5), "optimizer": optax.sgd(1.0), "meta_batch": 6}
    one = make_trainer(learner, family.split.train, span, chunk=6, **sizes)
    other = make_trainer(learner, family.split.train, span, chunk=chunk, **sizes)
    state = one.init(jax.random.key(0))
    a, _ = jax.jit(one.step)(jax.random.key(1), state)
    b, _ = jax.jit(other.step)(jax.random.key(1), state)
    for x, y in zip(jax.tree.leaves(a.slow), jax.tree.leaves(b.slow), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_a_run_does_not_depend_on_how_it_is_cut(house):
    family, _, learner, _ = house
    trainer = make_trainer(
        learner, family.split.train, Span(2, 3, 2), explore=by_segment(1.0, 0.5), optimizer=optax.adam(1e-2), meta_batch=2
    )
    key = jax.random.key(8)
    state = jax.jit(trainer.init)(jax.random.key(0))
    whole, _ = jax.jit(steps_together(trainer, 4))(key, state)
    two = jax.jit(steps_together(trainer, 2))
    halves, _ = two(key, two(key, state)[0])
    for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True):
        np.testing.assert_array_equal(x, y)


def test_off_policy_keeps_older_lifetimes(house):
    family, _, learner, _ = house
    sizes = {"explore": by_segment(1.0, 0.5), "optimizer": optax.sgd(0.0), "meta_batch": 2}
    trainer = make_trainer(learner, family.split.train, Span(2, 3, 2), capacity=6, **sizes)
    state, _ = jax.jit(steps_together(trainer, 3))(jax.random.key(8), trainer.init(jax.random.key(0)))
    goals = np.asarray(state.store.items.task.goal)
    assert state.store.added == 6
    assert len(np.unique(goals[:, 0])) == 6


def test_fewer_fresh_tasks_than_the_meta_batch_use_old_lifetimes_again(house):
    family, _, learner, _ = house

    def loss(key, slow, lifetime):
        return learner.loss(key, slow, lifetime)[0], {"goal": lifetime.task.goal[0]}

    sizes = {"explore": by_segment(1.0, 0.5), "optimizer": optax.sgd(0.0), "meta_batch": 3, "fresh": 1, "capacity": 3}
    trainer = make_trainer(learner._replace(loss=loss), family.split.train, Span(2, 3, 2), **sizes)
    state, metrics = jax.jit(steps_together(trainer, 4))(jax.random.key(8), trainer.init(jax.random.key(0)))
    assert state.store.added == 4
    kept = np.asarray(state.store.items.task.goal)[:, 0]
    assert len(np.unique(kept)) == 3
    np.testing.assert_allclose(metrics["goal"][-1], kept.mean(), rtol=1e-5)  # all that the store holds, not the fresh one
