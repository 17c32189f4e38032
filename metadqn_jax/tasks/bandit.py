"""`bernoulli_bandit` and `gaussian_bandit`: find the best of some arms within one episode (Duan et al. 2016, section 3.1)."""

import dataclasses

import jax
import jax.numpy as jnp

from metadqn_jax.actions import discrete, held
from metadqn_jax.checks import HUGE, check_count, check_real
from metadqn_jax.environments.bandit import Bandit, BernoulliBandit, GaussianBandit
from metadqn_jax.tasks.base import Family, Recipe
from metadqn_jax.tasks.from_gymnax import from_gymnax
from metadqn_jax.tasks.splits import split
from metadqn_jax.tasks.trials import TRIAL
from metadqn_jax.types import Span

SUPPORT = 80  # random pulls that a gradient learner adapts on
RECIPE = Recipe(
    span=Span(segments=2, steps=10, streams=8),
    discount=0.0,  # a pull changes nothing but what is known
    inner_trace=0.0,
    outer_trace=0.0,
    reward_scale=1.0,
    query_epsilon=0.5,
    outer_steps=1_000,
)
TRIAL_RECIPE = dataclasses.replace(
    TRIAL, discount=0.96, query_epsilon=0.1, last_epsilon=0.01, memory="actions", hidden=(32, 32), outer_steps=400
)
BATCH_PULLS = 3_200  # of the trials of an outer step together, within 16 … 256 trials


def bernoulli_bandit(arms: int = 5, pulls: int = 10) -> Family:
    """Arms that pay 1 or 0, with means ~ U[0, 1]; an episode, and a trial, is `pulls` pulls (Duan et al. 2016, section 3.1).

    At 10 pulls the best that does not know the means returns 6.660 with 5 arms, and 6.714 with 10 or 50
    (`planners.bandit.bayes_optimal`); knowing them, pulls · arms / (arms + 1). Raises `Misuse` on sizes < 1.

    >>> bernoulli_bandit(arms=10, pulls=100).trial.span
    Span(segments=100, steps=1, streams=1)
    """
    _check_sizes(arms, pulls)
    return _family(BernoulliBandit(means=jnp.zeros(arms), max_steps_in_episode=pulls), jax.random.uniform)


def gaussian_bandit(arms: int = 5, pulls: int = 10, *, mean: float = 0.0, spread: float = 1.0, noise: float = 1.0) -> Family:
    """Arms that pay their means ~ N(mean, spread²) plus noise ~ N(0, noise²), in episodes of `pulls` pulls.

    Raises `Misuse` on sizes < 1, a spread < 1e-6, a negative noise, and on numbers above 1e9.
    """
    _check_sizes(arms, pulls)
    check_real("mean", mean, least=-HUGE, most=HUGE)
    check_real("spread", spread, least=1e-6, most=HUGE)
    check_real("noise", noise, most=HUGE)
    base = GaussianBandit(means=jnp.zeros(arms), noise=noise, max_steps_in_episode=pulls)
    return _family(base, lambda key, shape: mean + spread * jax.random.normal(key, shape))


def _check_sizes(arms, pulls):
    for name, size in (("arms", arms), ("pulls", pulls)):
        check_count(name, size)


def _family(base, prior):
    """The family of bandits like `base`, with means drawn from `prior(key, shape)`."""
    arms, pulls = len(base.means), base.max_steps_in_episode

    def vary(key, params):
        return params.replace(means=prior(key, (arms,)))

    def optimum(key, task):
        return pulls * jnp.max(task.means)

    recipe = dataclasses.replace(RECIPE, span=Span(2, pulls, max(1, SUPPORT // pulls)))
    trials = min(max(16, BATCH_PULLS // pulls), 256)
    trial = dataclasses.replace(TRIAL_RECIPE, span=Span(pulls, 1, 1), meta_batch=trials)
    head = held(discrete(arms), -(-arms // pulls))  # single draws of more arms than pulls would hardly ever repeat one
    tasks = split(from_gymnax(Bandit(base), vary, head=head))
    return Family(tasks, recipe, pulls, optimum, features=lambda task: task.means, trial=trial)
