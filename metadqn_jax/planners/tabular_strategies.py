"""Strategies for trials of finite MDPs: what is known is a posterior, and each has its own way to plan with it.

They act in any family in trials whose observations are one-hot states, as `tasks.tabular`'s are. The span of a judge
says how often they plan: Span(episodes, horizon, 1) before each episode, Span(episodes · horizon, 1, 1) before each step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_count, check_real, require
from metadqn_jax.learners.base import MetaLearner
from metadqn_jax.planners import tabular_belief as belief
from metadqn_jax.planners.strategy import strategy
from metadqn_jax.planners.tabular import action_values, expectation, optimistic_expectation
from metadqn_jax.planners.tabular_belief import Counts, Posterior, Prior
from metadqn_jax.tasks.base import Family
from metadqn_jax.tasks.trials import check_trials
from metadqn_jax.types import Array, Key

Plan = Callable[[Key, Counts, Posterior], Array]  # -> Q [H, S, A], to be acted on greedily


TIE = 1e-4  # values this close are equal, and the lot decides: before anything is seen they all are


class Sizes(NamedTuple):
    """Of an MDP, and of a trial in it: `episodes` of `horizon` steps."""

    states: int
    actions: int
    horizon: int
    episodes: int

    @property
    def length(self) -> int:
        """Steps in a trial."""
        return self.horizon * self.episodes


class Planned(NamedTuple):
    """What was counted, and the plan that was made of it: Q [H, S, A], indexed by the steps taken in an episode."""

    counts: Counts
    q: Array


def sizes_of(family: Family) -> Sizes:
    """The sizes of a family of finite MDPs in trials (`in_trials`): behind the one-hot state stand a flag and the time.

    Raises `Misuse` on a family that is not in trials, and where states are not one-hot or actions not single numbers.
    """
    check_trials(family.split.test)
    spec, span = family.split.test.spec, family.recipe.span
    action = jax.eval_shape(spec.head.sample, jax.random.key(0))
    require(
        spec.head.num_actions == spec.head.width and action.shape == () and jnp.issubdtype(action.dtype, jnp.integer),
        f"a finite MDP's actions must be single whole numbers with one output each, got {action.dtype}{list(action.shape)} and "
        f"{spec.head.width} outputs; take a discrete head.",
    )
    seen = _first_states(family.split.test)
    require(
        bool((np.sort(seen, 1) == np.eye(seen.shape[1])[-1]).all()),
        f"a finite MDP's observations must be one-hot states, got {seen[0]} in a first one; take a family of one-hot states, "
        "such as tabular.",
    )
    return Sizes(spec.observation.shape[0] - 2, spec.head.width, family.horizon, span.segments * span.steps // family.horizon)


def _first_states(distribution):
    """What is observed of the first states of some tasks, [tasks, states]."""

    def first(key):
        key_task, key_reset = jax.random.split(key)
        return distribution.reset(key_reset, distribution.sample(key_task))[1][:-2]

    with jax.ensure_compile_time_eval():
        return np.asarray(jax.jit(jax.vmap(first))(jax.random.split(jax.random.key(0), 4)))


def planning(sizes: Sizes, prior: Prior, plan: Plan) -> MetaLearner:
    """The strategy that acts on what `plan` makes of the posterior, anew after each segment, with ties broken at random.

    plan: (key, Counts, Posterior) -> Q [H, S, A], indexed by the steps taken in an episode. All others are made of this
    one. Raises `Misuse` on sizes < 1, on a prior that does not fit them, and on observations of another size.
    """
    got = type(sizes).__name__
    require(isinstance(sizes, Sizes), f"sizes must be Sizes, got a {got}; take sizes_of(family), of a family in trials.")
    for name, size in sizes._asdict().items():
        check_count(name, size)
    fitted = belief.fit_prior(prior, sizes.states, sizes.actions)

    def planned(key, counts):
        key_plan, key_lots = jax.random.split(key)
        lots = jax.random.uniform(key_lots, (sizes.horizon, 1, sizes.actions), maxval=TIE)
        return Planned(counts, plan(key_plan, counts, belief.posterior(fitted, counts)) + lots)

    def q(fast, obs):
        require(
            obs.shape == (sizes.states + 2,),
            f"observations of a trial with {sizes.states} states must have the shape [{sizes.states + 2}], "
            f"got {list(obs.shape)}; build the strategy with the sizes of the family in trials.",
        )
        time = jnp.round(obs[-1] * sizes.length).astype(jnp.int32) % sizes.horizon
        return fast.q[time, obs[: sizes.states].argmax()]

    return strategy(
        begin=lambda key: planned(key, belief.nothing_seen(sizes.states, sizes.actions)),
        q=q,
        adapt=lambda key, fast, segment: planned(key, belief.count(fast.counts, segment)),
    )


def psrl(sizes: Sizes, prior: Prior) -> MetaLearner:
    """Plan in one MDP drawn from the posterior (Strens 2000; Osband et al. 2013, PSRL). Raises `Misuse`."""
    return planning(sizes, prior, lambda key, counts, believed: _in_a_draw(key, believed, sizes.horizon))


def opsrl(sizes: Sizes, prior: Prior, *, samples: int = 10) -> MetaLearner:
    """Plan in `samples` MDPs drawn from the posterior, and take the largest of their values of each action.

    Optimistic PSRL, which Osband & Van Roy (2017) compare with PSRL; with one sample it is PSRL. Raises `Misuse`.
    """
    check_count("samples", samples)

    def plan(key, counts, believed):
        return jax.vmap(lambda key: _in_a_draw(key, believed, sizes.horizon))(jax.random.split(key, samples)).max(0)

    return planning(sizes, prior, plan)


def greedy(sizes: Sizes, prior: Prior) -> MetaLearner:
    """Plan in the MDP of the posterior's means: certainty equivalence. Raises `Misuse`."""
    return optimistic(sizes, prior, lambda counts, believed: jnp.zeros(()))


def epsilon_greedy(sizes: Sizes, prior: Prior, *, epsilon: Any = 0.1) -> MetaLearner:
    """`greedy`, but with probability `epsilon` a step's action is uniform, which the plan draws. Raises `Misuse`."""
    check_real("epsilon", epsilon, most=1.0)

    def plan(key, counts, believed):
        key_when, key_what = jax.random.split(key)
        explores = jax.random.bernoulli(key_when, epsilon, (sizes.horizon, 1, 1))
        lots = jax.random.uniform(key_what, (sizes.horizon, 1, sizes.actions))
        return jnp.where(explores, lots, _in_the_mean(believed, 0.0, sizes.horizon))

    return planning(sizes, prior, plan)


def optimistic(sizes: Sizes, prior: Prior, bonus: Callable[[Counts, Posterior], Array]) -> MetaLearner:
    """Plan in the MDP of the posterior's means with `bonus(counts, posterior)` [S, A] on each reward. Raises `Misuse`."""
    return planning(sizes, prior, lambda key, counts, believed: _in_the_mean(believed, bonus(counts, believed), sizes.horizon))


def beb(sizes: Sizes, prior: Prior, *, beta: Any) -> MetaLearner:
    """The bonus β / (1 + α₀(s, a)), α₀ being the Dirichlet's whole concentration, prior included (Kolter & Ng 2009, eq. 4).

    The paper's guarantee has β = 2H²; what serves best is far smaller. Raises `Misuse`.
    """
    check_real("beta", beta)
    return optimistic(sizes, prior, lambda counts, believed: beta / (1.0 + believed.concentration.sum(-1)))


def count_bonus(sizes: Sizes, prior: Prior, *, scale: Any) -> MetaLearner:
    """The bonus scale · 2H² / (1 + visits of the pair): `beb` without the prior's share in the count. Raises `Misuse`."""
    check_real("scale", scale)
    return optimistic(sizes, prior, lambda counts, believed: scale * 2 * sizes.horizon**2 / (1.0 + counts.visits))


def ucrl2(sizes: Sizes, prior: Prior, *, scale: Any = 1.0, delta: Any = 0.05) -> MetaLearner:
    """Plan in the best MDP that `delta` does not exclude (Jaksch et al. 2010, UCRL2, eqs. 3 and 4), its bounds times `scale`.

    The paper estimates by frequencies, which a vague prior comes to, such as Prior(0, 100, 1, 1e-5).
    Differs from the paper: a finite horizon, and a plan after each segment, not only where visits doubled. Raises `Misuse`.
    """
    check_real("scale", scale)
    check_real("delta", delta, least=1e-12, most=1.0)

    def plan(key, counts, believed):
        visits, time = jnp.maximum(counts.visits, 1.0), 1.0 + counts.visits.sum()
        sure = jnp.log(2 * sizes.actions * time / delta)
        width = scale * jnp.sqrt(7 * (sure + jnp.log(sizes.states)) / (2 * visits))
        slack = scale * jnp.sqrt(14 * sizes.states * sure / visits)
        transition, reward = belief.expected(believed)
        return action_values(reward + width, optimistic_expectation(transition, slack), sizes.horizon)

    return planning(sizes, prior, plan)


def index(sizes: Sizes, prior: Prior, *, width: Any = 0.7) -> MetaLearner:
    """In each state the action of the largest mean + width · sd · √log(1 + visits of the state to come), no further ahead.

    The state is taken to be visited as often as any other in the steps that are left. Where successors hardly depend on
    the action, nothing is lost by not planning. Raises `Misuse`.
    """
    check_real("width", width)

    def plan(key, counts, believed):
        to_come = (sizes.length - counts.visits.sum()) / sizes.states
        best = believed.mean + width * believed.sd * jnp.sqrt(jnp.log1p(to_come))
        return jnp.broadcast_to(best, (sizes.horizon, *best.shape))

    return planning(sizes, prior, plan)


def _in_a_draw(key: Key, believed: Posterior, horizon: int) -> Array:
    transition, reward = belief.draw(key, believed)
    return action_values(reward, expectation(transition), horizon)


def _in_the_mean(believed: Posterior, bonus: Any, horizon: int) -> Array:
    transition, reward = belief.expected(believed)
    return action_values(reward + bonus, expectation(transition), horizon)
