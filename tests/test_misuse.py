"""Bad input is met where things are built, with one sentence that names the cure."""

import dataclasses
import sys

import gymnax
import gymnax.wrappers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metadqn_jax import programs, td, training
from metadqn_jax.actions import Support, candidates, discrete, factored, held, multi_discrete, naf, ornstein_uhlenbeck, sampled
from metadqn_jax.catalog import FAMILIES, LEARNERS, learners_of
from metadqn_jax.checks import Misuse, check_name
from metadqn_jax.environments.xland import XLand
from metadqn_jax.environments.xland_rulesets import make_rulesets
from metadqn_jax.evaluation import adaptation_returns, random_trial_returns, trial_returns
from metadqn_jax.explore import by_segment
from metadqn_jax.learners.anil import anil
from metadqn_jax.learners.base import first_slow
from metadqn_jax.learners.descent import Descending, descend, from_stopped, maml
from metadqn_jax.learners.imaml import imaml
from metadqn_jax.learners.multitask import finetune
from metadqn_jax.learners.rl2 import rl2
from metadqn_jax.learners.rules import sgd
from metadqn_jax.living import live
from metadqn_jax.memories.gru import gru
from metadqn_jax.memories.linear_attention import linear_attention
from metadqn_jax.networks import cnn, mlp, reader
from metadqn_jax.planners import bandit_strategies as strategies
from metadqn_jax.planners import dark_room, gridnavi
from metadqn_jax.planners.bandit import gittins_index
from metadqn_jax.planners.bandit_belief import beta_prior, normal_prior
from metadqn_jax.planners.tabular import value_iteration
from metadqn_jax.planners.tabular_belief import DUAN
from metadqn_jax.planners.tabular_strategies import Sizes, sizes_of, ucrl2
from metadqn_jax.stats import bootstrap
from metadqn_jax.sweep import sweep
from metadqn_jax.tasks.base import TaskDistribution, check_distribution, sample_tasks
from metadqn_jax.tasks.disguises import disguised, mirror_observation, mix_observation, permute_actions, sticky_actions
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.tasks.trials import absorb, in_trials, trial
from metadqn_jax.tasks.vary import places, vary_uniform
from metadqn_jax.tasks.wrappers import map_observation, observe_task, observe_time, observed, scale_observation, with_head
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
    with pytest.raises(
        Misuse, match=r'^xminigrid must be installed[^\n]*; pip install "\.\[grid\]" in the repository\.$'
    ) as caught:
        XLand()
    one_sentence(caught)


def call_cases():
    """What a newcomer might write, and words of the sentence that should come back."""
    family = navigation()
    network, inner, *_ = programs.make_parts(family.split.train, family.recipe)
    head, spec = family.split.train.spec.head, family.split.train.spec
    td_of = {"select": td.greedy, "target": td.one_step(0.9), "regression": td.squared}
    return {
        "a split of a family": (lambda: split(family), "a TaskDistribution is needed here, got a Family"),
        "tasks of a split": (lambda: sample_tasks(jax.random.key(0), family.split, 2), "got a TaskSplit"),
        "half a task": (lambda: sample_tasks(jax.random.key(0), family.split.train, 2.0), "number of tasks must be a whole"),
        "a split by a name": (lambda: split(family.split.train, by="goal"), "by must be a function of \\(task\\), got 'goal'"),
        "a network of a family": (lambda: mlp(family), "a network is built for a Spec, got a Family"),
        "hidden=64": (lambda: mlp(spec, hidden=64), "hidden must be a sequence of sizes, got 64; give \\(64,\\)"),
        "channels=16": (lambda: cnn(spec, channels=16), "channels must be a sequence of sizes"),
        "activation='relu'": (lambda: mlp(spec, activation="relu"), "activation must be a function of \\(x\\), got 'relu'"),
        "multi_discrete(3)": (lambda: multi_discrete(3), "sizes must be a sequence"),
        "ragged candidates": (lambda: candidates([[1.0], [1.0, 2.0]]), "a row for each action"),
        "ranges in a list": (lambda: vary_uniform([("length", 0.1, 0.2)]), "ranges must be a dict"),
        "ranges by number": (lambda: vary_uniform({3: (0.1, 0.2)}), "ranges must be a dict"),
        "a target that is not called": (
            lambda: td.temporal_difference(head, **{**td_of, "target": td.one_step}),
            "got one_step; let it take .*, or call it first",
        ),
        "no regression": (
            lambda: td.temporal_difference(head, **{**td_of, "regression": None}),
            "regression must be a function",
        ),
        "a bootstrap by name": (
            lambda: maml(network, inner=inner, outer=inner, rate=0.1, steps=1, bootstrap="current"),
            "bootstrap must be a function of \\(current, start, target\\)",
        ),
        "a plain loss": (
            lambda: rl2(network, None, loss=inner, length=5),
            "loss must be a function of \\(outer_step\\), got loss; let it take \\(outer_step\\)",
        ),
        "a bootstrap that moves": (
            lambda: imaml(network, inner=inner, outer=inner, rate=0.1, steps=1, bootstrap=from_stopped),
            "does not move with the adapted weights, got from_stopped",
        ),
        "a rule that is made": (
            lambda: anil(network, inner=inner, outer=inner, rate=0.1, steps=1, rule=sgd(0.1)),
            "of \\(rate\\)",
        ),
        "a rule that is not made": (
            lambda: finetune(network, loss=inner, rule=sgd, steps=1),
            "the rule must be a Rule, got sgd",
        ),
        "a subset by name": (
            lambda: descend(network, inner, inner, rule=sgd(0.1), subset="head", steps=1),
            "the subset must be a Subset, got 'head'",
        ),
        "a network that is not made": (
            lambda: maml(mlp, inner=inner, outer=inner, rate=0.1, steps=1),
            "the network must be a QNetwork, got mlp",
        ),
        "candidates in a square": (
            lambda: linear_attention(spec._replace(head=candidates(2.0 * jnp.eye(3))), per_action=True),
            "must know the actions one by one, got 3 actions embedded in 3",
        ),
        "parts of a family": (
            lambda: programs.make_parts(family, family.recipe),
            "a TaskDistribution is needed here, got a Family",
        ),
        "a family for a network": (
            lambda: maml(family, inner=inner, outer=inner, rate=0.1, steps=1),
            "the network must be a QNetwork, got a Family; make one",
        ),
        "a recipe in a dict": (
            lambda: programs.make_parts(family.split.train, {"discount": 0.9}),
            "the recipe must be a Recipe",
        ),
        "a program of tasks": (
            lambda: programs.make_program(family.split.train, lambda steps: None, family.recipe),
            "a Family is needed here, got a TaskDistribution",
        ),
        "a program to be trained": (
            lambda: training.train(programs.Program(None, None), jax.random.key(0), 1),
            "the trainer must be a Trainer, got .*; pass program.trainer",
        ),
        "a span in a tuple": (
            lambda: dataclasses.replace(family.recipe, span=(2, 3, 4)),
            "span must be a Span, got \\(2, 3, 4\\)",
        ),
        "no loss": (
            lambda: maml(network, inner=None, outer=inner, rate=0.1, steps=1),
            "inner must be a function of \\(views, transitions\\), got None",
        ),
        "trials by gradient steps": (
            lambda: programs.make_program(in_trials(family), lambda steps: rl2_of(in_trials(family)), in_trials(family).recipe),
            "a family in trials is judged by their episodes, got a judge by steps; pass judge=by_episodes",
        ),
        "a flag for a number": (lambda: td.one_step(True), "discount must be a finite number between 0 and 1, got True"),
        "a statistic of values alone": (
            lambda: bootstrap([[1.0]], statistic=lambda values: 0.0),
            "statistic must be a function of",
        ),
        "no repeats": (lambda: live(jax.random.key(0), *[None] * 4, Span(1, 1, 1), by_segment(0.0), repeats=0), "repeats must"),
        "a learner that is built": (
            lambda: programs.make_program(family, maml(network, inner=inner, outer=inner, rate=0.1, steps=1), family.recipe),
            "a program needs a function .*, got MetaLearner",
        ),
        "a discount that falls": (
            lambda: programs.make_parts(
                family.split.train, dataclasses.replace(family.recipe, discount=0.99, last_discount=0.95)
            ),
            "must rise to its last_discount, got 0.99 and 0.95",
        ),
        "one axis": (lambda: mirror_observation(family.split.train, 1), "axes to mirror must be some .*, got 1;"),
        "factors of another size": (lambda: scale_observation(family.split.train, [1.0] * 3), "factors must broadcast"),
        "a vary without a key": (
            lambda: from_gymnax("CartPole-v1", lambda params: params),
            "vary must be a function of \\(key, params\\)",
        ),
        "a family that is nearly spelt": (lambda: check_name("task family", "cartpol", FAMILIES), "did you mean 'cartpole'"),
        "a flag in a word": (lambda: FAMILIES["semicircle"](dense="false"), "dense must be True or False, got 'false'"),
        "a network's flag in a word": (lambda: mlp(spec, dueling="no"), "dueling must be True or False"),
        "a cap of 0": (lambda: FAMILIES["cartpole"](0), "cap must be a whole number of at least 1, got 0"),
        "a sticky word": (lambda: FAMILIES["breakout"]("a"), "sticky must be a finite number"),
        "no rule to combine": (lambda: FAMILIES["xland"](rules=0), 'change share or count, or take unseen="rulesets"'),
        "a trace in a word": (
            lambda: programs.make_parts(family.split.train, dataclasses.replace(family.recipe, inner_trace="abc")),
            "inner_trace must be a finite number between 0 and 1, got 'abc'",
        ),
        "trials of trials": (lambda: in_trials(in_trials(family)), "must be plain episodes, got trials"),
        "trials of a distribution": (lambda: in_trials(family.split.train), "a Family is needed here, got a TaskDistribution"),
        "a trial of a family": (lambda: trial(family, 2, 5), "a TaskDistribution is needed here, got a Family"),
        "a rest for a family": (lambda: absorb(family, 5), "a TaskDistribution is needed here, got a Family"),
        "a view of a family": (lambda: mix_observation(family), "a TaskDistribution is needed here, got a Family"),
        "sticky families": (lambda: sticky_actions(family), "a TaskDistribution is needed here, got a Family"),
        "a disguised split": (lambda: disguised(family.split, mix_observation), "a Family is needed here, got a TaskSplit"),
        "a disguise by name": (lambda: disguised(family, "mix"), "wrapper must be a function of"),
        "what is seen of a task": (lambda: observe_task(family.split.train, None), "features must be a function of"),
        "factors that are none": (lambda: scale_observation(family.split.train, [np.nan, 1.0]), "factors must be finite"),
        "a part of no task": (lambda: split(family.split.train, by=lambda task: None), "by must give a part of the task"),
        "a part in words": (lambda: split(family.split.train, by=lambda task: "a"), "by must give arrays of the task"),
        "places of no ranges": (lambda: places([1]), "ranges must be a dict"),
        "a range of no field": (lambda: vary_uniform({(): (1, 2)}), "ranges must be a dict"),
        "parameters of another environment": (
            lambda: from_gymnax("CartPole-v1", lambda key, params: params, params=gymnax.make("Pendulum-v1")[1]),
            "params must be CartPole-v1's EnvParams, got a .*pendulum",
        ),
        "fields by number": (lambda: from_gymnax("CartPole-v1", lambda key, params: params, keep=3), "keep must name fields"),
        "a head that is not called": (lambda: with_head(family, discrete), "got discrete; call it first"),
        "no head": (lambda: held(None, 3), "the head must be an ActionHead, got None"),
        "a loss of no head": (lambda: td.temporal_difference(None, **td_of), "the head must be an ActionHead, got None"),
        "a regression that is not called": (
            lambda: td.temporal_difference(head, **{**td_of, "regression": td.hl_gauss}),
            "got hl_gauss; let it take \\(head\\), or call it first",
        ),
        "a floor above 0": (lambda: td.munchausen(floor=1.0), "floor must be a finite number at most 0, got 1.0"),
        "noise that never comes": (lambda: ornstein_uhlenbeck(naf([0.0], [1.0]), pull=0.0), "pull must be a finite number"),
        "a support in a tuple": (lambda: discrete(3, (0, 1, 5)), "the support must be a Support, got"),
        "a box in words": (lambda: factored(["a"], ["b"], 3), "a box with finite bounds"),
        "features in words": (lambda: candidates({"a": 1}), "got rows of unequal length, or no numbers"),
        "a dueling search": (
            lambda: mlp(spec._replace(head=sampled([0.0], [1.0])), dueling=True),
            "a dueling network needs a head with an output for each option",
        ),
        "a table of another shape": (
            lambda: value_iteration(jnp.ones((2, 3, 2)), jnp.ones((3, 2)), 4),
            r"must have the shapes \[S, A, S\] and \[S, A\], got \[2, 3, 2\] and \[3, 2\]",
        ),
        "a negative horizon": (
            lambda: value_iteration(jnp.ones((1, 1, 1)), jnp.ones((1, 1)), -1),
            "horizon must be a whole number of at least 0, got -1",
        ),
        "a hunt without an end": (lambda: dark_room.bayes_optimal(1, 5, -1), "horizon must be a whole number of at least 1"),
        "a hunt in a closet": (lambda: dark_room.random_return(1), "size must be a whole number of at least 2, got 1"),
        "no hunt": (lambda: gridnavi.bayes_optimal(0), "episodes must be a whole number of at least 1, got 0"),
        "a prior of one number": (lambda: gittins_index(5, prior=1.0), "prior must be the two parameters"),
        "a strategy of another size": (
            lambda: played(strategies.thompson(3)),
            "what the learner's q gives the head",
        ),
        "a strategy that meets other observations": (lambda: played(ucrl2(Sizes(4, 3, 2, 2), DUAN)), "observations of a trial"),
        "sizes in a tuple": (lambda: ucrl2((4, 3, 2, 2), DUAN), "sizes must be Sizes, got a tuple"),
        "sizes of plain episodes": (lambda: sizes_of(tabular(4, 3, 5)), "put the family in trials"),
        "a wrapper of gymnax's": (
            lambda: from_gymnax(gymnax.wrappers.FlattenObservationWrapper(gymnax.make("CartPole-v1")[0]), vary_uniform({})),
            "wrap the task distribution instead of the environment",
        ),
        "a rest within a trial": (
            lambda: absorb(trial(family.split.train, 2, 5), 7),
            "must be plain episodes, got trials; absorb first",
        ),
        "sticky trials": (
            lambda: sticky_actions(trial(family.split.train, 2, 5)),
            "actions must be made sticky before episodes are joined, got a trial",
        ),
        "two disguises at once": (
            lambda: disguised(family, lambda side: mirror_observation(permute_actions(side), (0,))),
            "the inner task of a disguised one .*; apply `disguised` once for each wrapper",
        ),
        "a disguise that hides nothing": (
            lambda: disguised(family, lambda side: observe_time(side, 20)),
            r"a disguised task must be \(inner task, one array that hides it\)",
        ),
        "a wrapper that returns nothing": (lambda: disguised(family, lambda side: None), "needed here, got a NoneType"),
        "a view without a return": (
            lambda: map_observation(family.split.train, lambda task, obs: None),
            "observations must be one array",
        ),
        "a view in two parts": (
            lambda: map_observation(family.split.train, lambda task, obs: (obs, obs)),
            "observations must be one array",
        ),
        "a view by number": (lambda: map_observation(family.split.train, 3), r"change must be a function of \(task, obs\)"),
        "a recipe's flag in a word": (
            lambda: programs.make_parts(family.split.train, dataclasses.replace(family.recipe, dueling="no")),
            "dueling must be True or False, got 'no'",
        ),
        "a dueling search by chance": (
            lambda: mlp(spec._replace(head=sampled([-1.0] * 2, [1.0] * 2, Support(-5.0, 5.0, 32))), dueling=True),
            "a dueling network needs a head with an output for each option",
        ),
        "a support too narrow to tell": (lambda: discrete(3, Support(1e8, 1e8 + 1, 5)), "bins must be apart in float32"),
        "numbers in words": (lambda: factored(["-1"], ["1"], 3), "a box with finite bounds"),
        "no kind of goal": (lambda: make_rulesets(9, goals=()), "goals must be a tuple of at least one kind"),
        "one kind of goal": (lambda: make_rulesets(9, goals="hold"), r"as in \('hold',\)"),
        "a plane for a finite MDP": (lambda: sizes_of(in_trials(family)), "observations must be one-hot states"),
        "a box for a finite MDP": (
            lambda: sizes_of(in_trials(FAMILIES["reaching"](2))),
            "actions must be single whole numbers",
        ),
        "a prior beyond numbers": (lambda: beta_prior(1e39, 1.0), "successes must be a finite number between"),
        "a spread beyond numbers": (lambda: normal_prior(spread=1e20), "spread must be a finite number between"),
        "a pinwheel of one cell": (lambda: dark_room.pinwheel(1, 1), "size must be a whole number of at least 3"),
        "another kind of goal": (lambda: make_rulesets(9, goals=("hol",)), "did you mean 'hold'"),
    }


def rl2_of(family):
    """RL² as a newcomer builds it, on a network that `make_parts` makes for the memory."""
    memory = gru(family.split.train.spec, 4)
    parts = programs.make_parts(family.split.train, family.recipe, memory=memory)
    return rl2(parts.network, memory, loss=parts.outer_at, length=family.recipe.span.segments)


def played(strategy):
    """The returns of a strategy on trials of five arms."""
    test = in_trials(FAMILIES["bernoulli_bandit"](5, 4)).split.test
    slow = first_slow(strategy, jax.random.key(0))
    tasks = sample_tasks(jax.random.key(1), test, 2)
    return trial_returns(jax.random.key(2), strategy, slow, test, tasks, (1,), span=Span(4, 1, 1), horizon=4)


CALLS = call_cases()


@pytest.mark.parametrize("name", CALLS)
def test_what_a_newcomer_might_write(name):
    call, words = CALLS[name]
    with pytest.raises(Misuse, match=words) as caught:
        call()
    one_sentence(caught)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learner": maml}, "the learner must be a MetaLearner, got maml; call it first, as in maml"),
        ({"span": (2, 3, 4)}, r"the span must be a Span, got \(2, 3, 4\); make one"),
        ({"explore": lambda *at: 2.0}, "the exploration rate ε must be a finite number between 0 and 1, got 2.0"),
        ({"explore": lambda *at: jnp.nan}, "the exploration rate ε must be a finite number"),
        ({"explore": lambda step, k, t: 1.0 - 3 * k}, "the exploration rate ε must be .*, got -2.0"),
        ({"explore": lambda *at: True}, r"explore must give a number, the rate ε, got bool\[\]"),
        ({"explore": lambda *at: jnp.ones(3)}, r"explore must give a number, the rate ε, got float32\[3\]"),
        ({"explore": lambda *at: "a"}, "explore must be arithmetic that traces, got the error"),
        ({"explore": lambda step, k, t: 1.0 if k == 0 else 0.1}, "explore must be arithmetic that traces, got the error"),
        ({"explore": 0.5}, r"explore must be a function of \(outer_step, segment, step\), got 0.5"),
        ({"optimizer": 1e-3}, "optimizer must be an optax.GradientTransformation, got 0.001"),
        ({"optimizer": optax.adam}, "optimizer must be an optax.GradientTransformation"),
        ({"objective": 0.25}, r"objective must be a function of \(losses\), got 0.25"),
        ({"objective": jnp.ones_like}, "must give 2 tasks weights .* that sum to 1, got .* the sum 2.0; divide"),
    ],
)
def test_functions_of_a_trainer(house, changes, words):
    with pytest.raises(Misuse, match=words) as caught:
        trainer(house, **changes)
    one_sentence(caught)


def test_a_learner_for_lifetimes_of_another_length(house):
    family = in_trials(navigation())
    parts = programs.make_parts(family.split.train, family.recipe)
    memory = gru(parts.spec)
    network = reader(parts.spec, memory.context)
    learner = rl2(network, memory, loss=parts.outer_at, length=5)
    with pytest.raises(Misuse, match="rl2's length must be the 9 steps of a trial, got 5; set length to it"):
        make_trainer(
            learner, family.split.train, Span(9, 1, 1), explore=by_segment(1.0), optimizer=optax.sgd(0.1), meta_batch=2
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (lambda family: {"split": (1, 2)}, r"a family's split must be a TaskSplit"),
        (lambda family: {"horizon": 0}, "a family's horizon must be a whole number of at least 1, got 0"),
        (lambda family: {"optimum": -1.0}, r"a family's optimum must be a function of \(key, task\), got -1.0"),
        (lambda family: {"optimum": lambda task: 0.0}, r"a family's optimum must be a function of \(key, task\)"),
        (
            lambda family: {"split": family.split._replace(test=trial(family.split.test, 2, 20))},
            "both sides of a family must look alike, got .*; wrap both",
        ),
        (lambda family: {"optimum": lambda key, task: None}, "a family's optimum must give one number, got None"),
    ],
)
def test_families_that_are_not_whole(house, changes, words):
    family, _, maml = house
    with pytest.raises(Misuse, match=words) as caught:
        programs.make_program(family._replace(**changes(family)), lambda steps: maml, family.recipe)
    one_sentence(caught)


@pytest.mark.parametrize("family_name", ["bernoulli_bandit", "gridnavi", "reaching"])
@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_is_built_by_default(family_name, name):
    entry = LEARNERS[name]
    family = entry.prepare(FAMILIES[family_name]())
    for make in learners_of(entry, family, family.recipe):
        learner = make(family.recipe.inner_steps)
        slow = jax.eval_shape(lambda key, learner=learner: first_slow(learner, key), jax.random.key(0))
        assert jax.tree.structure(slow.params) == jax.tree.structure(slow.target)
