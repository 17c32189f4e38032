"""Every learner × several families through one table: what holds for one holds for all."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax
import pytest

from metadqn_jax import trees
from metadqn_jax.actions import candidates, factored, held, naf, ornstein_uhlenbeck, sampled
from metadqn_jax.catalog import FAMILIES, LEARNERS, MEMORIES, learners_of
from metadqn_jax.explore import by_segment
from metadqn_jax.judges import by_steps
from metadqn_jax.learners.base import first_slow
from metadqn_jax.living import live
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.navigation_2d import navigation_2d
from metadqn_jax.tasks.wrappers import with_head
from metadqn_jax.training import make_trainer, steps_together
from metadqn_jax.types import Span


def on_box(head):
    """A point that is moved by velocities in a box."""
    return with_head(navigation_2d(), head)


WAYS = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]])
LOW, HIGH = [-0.1] * 2, [0.1] * 2  # velocities of navigation_2d
BOX = {
    "factored": factored(LOW, HIGH, 3),
    "sampled": ornstein_uhlenbeck(sampled(LOW, HIGH, units=8, points=8, elites=3)),
    "naf": held(naf(LOW, HIGH), 2),
    "candidates": candidates(WAYS)._replace(decode=lambda action: 0.1 * WAYS[action]),
}
PLACES = FAMILIES | {f"box, {name}": functools.partial(on_box, head) for name, head in BOX.items()}
EXPLORE = by_segment(1.0, 0.5)
TASKS = 2


@functools.cache
def place(name):
    """A family, built once for all the learners on it."""
    return PLACES[name]()


def tiny(span):
    """A few transitions in the shape that the recipe's span has."""
    return Span(min(span.segments, 8), min(span.steps, 3), min(span.streams, 2))


class Case:
    """One learner on one family, tiny; jitted functions are shared by the tests."""

    def __init__(self, family_name, learner_name, memory=None):
        entry = LEARNERS[learner_name]
        self.family = family = entry.prepare(place(family_name))
        self.distribution = family.split.train
        self.recipe = recipe = dataclasses.replace(family.recipe, inner_steps=2, span=tiny(family.recipe.span), hidden=(8, 8))
        self.span = recipe.span
        self.learner = learners_of(entry, family, recipe, memory=memory)[0](recipe.inner_steps)
        self.slow = trees.strengthen(first_slow(self.learner, jax.random.key(0)))
        self.tasks = sample_tasks(jax.random.key(1), self.distribution, TASKS)
        self.live = jax.jit(self.one_life)
        self.lives = jax.jit(jax.vmap(self.one_life, (0, None, 0)))

    def keys(self):
        return jax.random.split(jax.random.key(2), TASKS)

    def one_life(self, key, slow, task):
        return live(key, self.learner, slow, self.distribution, task, self.span, EXPLORE)


TABLE = [(family, learner) for family in ("navigation", "cartpole", "tabular") for learner in LEARNERS]
TABLE += [("gridnavi", "maml"), *(("gridnavi", "rl2", memory) for memory in MEMORIES)]
TABLE += [("box, sampled", "maml"), ("box, factored", "cavia"), ("box, sampled", "rl2"), ("box, candidates", "rl2")]
TABLE += [("box, naf", "scratch")]
PAIRS = [pytest.param(row, id="-".join(row), marks=pytest.mark.xdist_group("-".join(row))) for row in TABLE]


@pytest.fixture(scope="module", params=PAIRS)
def case(request):
    return Case(*request.param)


def close(a, b, tolerance=2e-4):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jnp.allclose(x, y, rtol=tolerance, atol=tolerance)


def test_structures_are_stable_and_vmap_is_a_loop(case):
    life = case.lives(case.keys(), case.slow, case.tasks)
    for i in range(TASKS):
        task, one = jax.tree.map(lambda leaf, i=i: leaf[i], (case.tasks, life))
        close(case.live(case.keys()[i], case.slow, task), one)
    fast = jax.eval_shape(case.learner.begin, jax.random.key(0), case.slow)
    assert trees.shapes(jax.tree.map(lambda leaf: leaf[0, 0], life.fasts)) == fast
    experience = life.lifetime.experience
    assert experience.reward.shape == (TASKS, case.span.segments, case.span.steps, case.span.streams)
    assert experience.obs.shape[4:] == case.distribution.spec.observation.shape


KEEPING = optax.GradientTransformation(  # plain descent whose state is the latest gradient
    init=lambda params: jax.tree.map(jnp.zeros_like, params),
    update=lambda gradient, _, params: (trees.scale(-1e-3, gradient), gradient),
)


def test_one_compile_for_three_steps_whose_gradients_are_finite_and_shaped_like_params(case):
    traces = []

    def counted(key, slow, lifetime):
        traces.append(1)
        return case.learner.loss(key, slow, lifetime)

    learner = case.learner._replace(loss=counted)
    trainer = make_trainer(learner, case.distribution, case.span, explore=EXPLORE, optimizer=KEEPING, meta_batch=TASKS)
    advance = jax.jit(lambda state: steps_together(trainer, 1)(jax.random.key(3), state))
    state = jax.jit(trainer.init)(jax.random.key(4))
    traces.clear()
    for step in range(3):
        before = trees.shapes(state)
        state, metrics = advance(state)
        assert trees.shapes(state) == before
        assert jnp.isfinite(metrics["loss"]).all()
        assert trees.shapes(state.opt_state) == trees.shapes(state.slow.params)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.opt_state))
        assert int(state.slow.step) == step + 1
        if step == 0:
            traces.clear()
    assert not traces


@pytest.mark.parametrize("name", LEARNERS)
def test_jit_equals_eager(name):
    case = Case("navigation", name)
    task = jax.tree.map(lambda leaf: leaf[0], case.tasks)
    lifetime = case.live(case.keys()[0], case.slow, task).lifetime
    segment = jax.tree.map(lambda leaf: leaf[0], lifetime.experience)

    def through(slow, lifetime, segment):
        fast = case.learner.begin(jax.random.key(5), slow)
        adapted, _ = case.learner.adapt(jax.random.key(6), slow, fast, segment)
        loss, _ = case.learner.loss(jax.random.key(7), slow, lifetime)
        return adapted, case.learner.q(slow, adapted, segment.obs[0, 0]), loss

    with jax.disable_jit():
        eager = through(case.slow, lifetime, segment)
    close(jax.jit(through)(case.slow, lifetime, segment), eager)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_training_step_keeps_its_types_in_double_precision(name):
    with jax.enable_x64(True):
        family = LEARNERS[name].prepare(PLACES["navigation"]())
        recipe = dataclasses.replace(family.recipe, span=tiny(family.recipe.span))
        learner = learners_of(LEARNERS[name], family, recipe)[0](2)
        sizes = {"explore": EXPLORE, "optimizer": KEEPING, "meta_batch": TASKS}
        trainer = make_trainer(learner, family.split.train, recipe.span, **sizes)
        state = jax.eval_shape(trainer.init, jax.random.key(0))
        assert jax.eval_shape(trainer.step, jax.random.key(1), state)[0] == state


STEPPED = [name for name, entry in LEARNERS.items() if entry.judge is by_steps and "inner_rate" in entry.takes]


@pytest.mark.parametrize("name", STEPPED)
def test_what_is_judged_step_by_step_adapts_as_what_was_trained(name):
    case, entry = Case("navigation", name), LEARNERS[name]
    whole, single = (learners_of(entry, case.family, case.recipe)[1](steps) for steps in (2, 1))
    task = jax.tree.map(lambda leaf: leaf[0], case.tasks)
    segment = jax.tree.map(lambda leaf: leaf[0], case.live(case.keys()[0], case.slow, task).lifetime.experience)

    def adapted(learner, times):
        fast = learner.begin(jax.random.key(5), case.slow)
        for i in range(times):
            fast, _ = learner.adapt(jax.random.key(i), case.slow, fast, segment)
        return fast

    fast = adapted(whole, 1)
    close(adapted(single, 2), fast)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (fast, adapted(single, 1))), strict=True))
