"""Bad input is met where things are built, with one sentence that names the cure."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metadqn_jax import programs
from metadqn_jax.actions import discrete
from metadqn_jax.catalog import LEARNERS
from metadqn_jax.checks import Misuse
from metadqn_jax.environments.xland import XLand
from metadqn_jax.evaluation import adaptation_returns, random_trial_returns
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.descent import Descending, sgd
from metadqn_jax.sweep import sweep
from metadqn_jax.tasks.base import TaskDistribution, check_distribution, sample_tasks
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.tasks.wrappers import observed, with_head
from metadqn_jax.training import make_trainer
from metadqn_jax.types import Span

SPAN = Span(2, 3, 2)


@pytest.fixture(scope="module")
def house():
    family = navigation()
    parts = programs.make_parts(family.split.train, family.recipe)
    return family, parts, LEARNERS["maml"].trained(parts, 1)


def trainer(house, learner=None, span=SPAN, **changes):
    family, _, maml = house
    sizes = {"explore": by_segment(1.0, 0.5), "optimizer": optax.sgd(0.1), "meta_batch": 2}
    return make_trainer(learner or maml, family.split.train, span, **{**sizes, **changes})


def one_sentence(caught):
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert ";" in text, "the cure stands behind a semicolon"


@pytest.mark.parametrize(
    "changes",
    [
        {"meta_batch": 0},
        {"meta_batch": 2.0},
        {"meta_batch": True},
        {"chunk": -1},
        {"capacity": 1},
        {"fresh": 0},
        {"polyak": 1.5},
    ],
)
def test_sizes_of_a_trainer(house, changes):
    with pytest.raises(Misuse) as caught:
        trainer(house, **changes)
    one_sentence(caught)


def test_a_store_that_is_too_small_is_named(house):
    with pytest.raises(Misuse, match="capacity 1"):
        trainer(house, capacity=1)
    with pytest.raises(Misuse, match="3 fresh lifetimes, got capacity 2"):
        trainer(house, fresh=3, capacity=2)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, -2, 1), (1, 1, 1.5)])
def test_sizes_of_a_span(sizes):
    with pytest.raises(Misuse) as caught:
        Span(*sizes)
    one_sentence(caught)


def test_a_lifetime_without_a_query(house):
    with pytest.raises(Misuse, match="support and a query") as caught:
        trainer(house, span=Span(1, 3, 2))
    one_sentence(caught)


def grows(key, slow, fast, segment):
    return Descending(fast.weights, (jnp.zeros(()),), fast.steps), {}


def changes_dtype(key, slow, fast, segment):
    return fast._replace(steps=fast.steps.astype(jnp.float32)), {}


def reports_a_vector(key, slow, fast, segment):
    return fast, {"rewards": segment.reward}


@pytest.mark.parametrize("adapt", [grows, changes_dtype, reports_a_vector])
def test_an_adapt_that_returns_something_else(house, adapt):
    with pytest.raises(Misuse) as caught:
        trainer(house, house[2]._replace(adapt=adapt))
    one_sentence(caught)


def test_a_learner_for_another_head_or_other_observations(house):
    family, _, maml = house
    few = family.split.train._replace(spec=family.split.train.spec._replace(head=discrete(4)))
    for distribution, words in (
        (few, r"what the learner's q gives the head must stay float32\[4\], got float32\[9\]"),
        (observed(family).split.train, r"the learner must take observations float32\[4\], got the error"),
    ):
        with pytest.raises(Misuse, match=words) as caught:
            make_trainer(maml, distribution, SPAN, explore=by_segment(1.0, 0.5), optimizer=optax.sgd(0.1), meta_batch=2)
        one_sentence(caught)


def test_episodes_are_told_apart_in_trials_alone(house):
    family, _, _ = house
    trials = in_trials(family)
    span = trials.recipe.span
    for side in (family.split.test, observed(trials).split.test):
        with pytest.raises(Misuse, match="must be observed as `trial` shows it") as caught:
            random_trial_returns(jax.random.key(0), side, sample_tasks(jax.random.key(1), side, 2), span=span, horizon=20)
        one_sentence(caught)
    side = trials.split.test
    with pytest.raises(Misuse, match="must hold an episode of 1000 steps") as caught:
        random_trial_returns(jax.random.key(0), side, sample_tasks(jax.random.key(1), side, 2), span=span, horizon=1000)
    one_sentence(caught)


def test_a_head_of_another_number_of_actions_for_a_family():
    with pytest.raises(Misuse, match="the head must have 9 actions, got 4") as caught:
        with_head(navigation(), discrete(4))
    one_sentence(caught)


def test_a_loss_that_is_no_scalar_and_a_memory_that_changes(house):
    _, _, maml = house
    with pytest.raises(Misuse, match="scalar"):
        trainer(house, maml._replace(loss=lambda key, slow, lifetime: (lifetime.experience.reward[0, 0], {})))
    with pytest.raises(Misuse, match="remember"):
        trainer(house, maml._replace(remember=lambda key, slow, lifetimes: jnp.zeros(3)))


@pytest.mark.parametrize("rate", [-0.1, np.nan, np.inf, "fast"])
def test_rates(rate):
    with pytest.raises(Misuse) as caught:
        sgd(rate)
    one_sentence(caught)


@pytest.mark.parametrize("steps", [0, -1, 1.5])
def test_inner_steps(house, steps):
    with pytest.raises(Misuse) as caught:
        LEARNERS["maml"].trained(house[1], steps)
    one_sentence(caught)


@pytest.mark.parametrize("steps", [(), (3, 1), (1, 1), (-1,)])
def test_steps_of_an_evaluation(house, steps):
    family, _, maml = house
    sizes = {"span": SPAN, "explore": by_segment(1.0), "horizon": 2}
    with pytest.raises(Misuse) as caught:
        adaptation_returns(jax.random.key(0), maml, None, family.split.test, None, steps=steps, **sizes)
    one_sentence(caught)


def broken(distribution, **change):
    def step(key, task, world, action):
        world, step = distribution.step(key, task, world, action)
        return world, step._replace(**{name: change[name](getattr(step, name)) for name in change})

    return TaskDistribution(distribution.sample, distribution.reset, step, distribution.spec)


@pytest.mark.parametrize(
    "change",
    [
        {"obs": lambda obs: obs[:1]},
        {"transition_obs": lambda obs: obs.astype(jnp.float16)},
        {"terminated": lambda flag: flag.astype(jnp.float32)},
        {"reward": lambda reward: reward[None]},
    ],
)
def test_a_distribution_whose_step_does_not_fit_its_reset(house, change):
    with pytest.raises(Misuse) as caught:
        check_distribution(broken(house[0].split.train, **change))
    one_sentence(caught)


@pytest.mark.parametrize("grid", [{"rate": []}, {"rate": [np.nan]}, {"rate": [0.1, -1.0]}])
def test_a_sweep(grid):
    with pytest.raises(Misuse) as caught:
        sweep(lambda hyper: sgd(hyper["rate"]), grid, seeds=[0], steps=1)
    one_sentence(caught)


def test_an_extra_that_is_not_installed(monkeypatch):
    for module in ("xminigrid", "xminigrid.envs.xland"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Misuse, match=r'^xminigrid must be installed[^\n]*; pip install "metadqn_jax\[grid\]"\.$') as caught:
        XLand()
    one_sentence(caught)
