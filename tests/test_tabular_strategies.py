"""Strategies for finite MDPs against plain loops, linear programmes, and the published table of Duan et al. (2016)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from metadqn_jax.checks import Misuse
from metadqn_jax.evaluation import optimal_returns, trial_returns
from metadqn_jax.learners.base import first_slow
from metadqn_jax.living import rollout, start
from metadqn_jax.planners import tabular_strategies as known
from metadqn_jax.planners.tabular import optimistic_expectation
from metadqn_jax.planners.tabular_belief import DUAN, Counts, Prior, count, draw, expected, fit_prior, nothing_seen, posterior
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.types import Span, Transition

S, A, H, EPISODES = 3, 2, 4, 5
SIZES = known.Sizes(S, A, H, EPISODES)
RNG = np.random.default_rng(0)
TRUE_P, TRUE_R = RNG.dirichlet(np.ones(S), (S, A)), RNG.normal(size=(S, A))
PRIOR = Prior(jnp.float32(RNG.normal(size=(S, A))), 0.8, 0.5, jnp.float32(RNG.uniform(0.3, 2.0, S)))
TIE = 2e-4  # lots break ties, so tables are exact but for them


def backward(reward, best_mean):
    """Q [H, S, A] by a plain loop; best_mean(s, a, values) is what is expected of the successors."""
    q, values = np.zeros((H, S, A)), np.zeros(S)
    for h in reversed(range(H)):
        for s in range(S):
            for a in range(A):
                q[h, s, a] = reward[s, a] + best_mean(s, a, values)
        values = q[h].max(1)
    return q


def solved(transition, reward):
    return backward(reward, lambda s, a, values: transition[s, a] @ values)


# --- the belief


@pytest.fixture(scope="module")
def life():
    """One trial of random actions, a Transition [20]."""
    trials = in_trials(tabular(S, A, H, episodes=EPISODES)).split.train

    @jax.jit
    def one(key):
        key_task, key_start, key_steps = jax.random.split(key, 3)
        task, sample = trials.sample(key_task), trials.spec.head.sample
        stream = start(key_start, trials, task)
        return rollout(key_steps, lambda key, t, noise, obs: (noise, sample(key)), trials, task, stream, H * EPISODES)[1]

    return jax.tree.map(np.asarray, one(jax.random.key(3)))


@pytest.fixture(scope="module")
def counts(life):
    """What a plain loop counts in it; the successors of all episodes' last steps but the trial's are hidden."""
    visits, rewards, moves = np.zeros((S, A)), np.zeros((S, A)), np.zeros((S, A, S))
    for t in range(H * EPISODES):
        s, a = life.obs[t, :S].argmax(), life.action[t]
        visits[s, a] += 1
        rewards[s, a] += life.reward[t]
        if t % H < H - 1 or t == H * EPISODES - 1:
            moves[s, a, life.next_obs[t, :S].argmax()] += 1
    assert moves.sum() == visits.sum() - (EPISODES - 1)
    assert visits.min() == 0 < visits.max()
    return Counts(visits, rewards, moves)


@pytest.mark.parametrize("steps", [1, H, H * EPISODES])
def test_segments_of_any_length_are_counted_as_by_a_plain_loop(life, counts, steps):
    segments = jax.tree.map(lambda leaf: leaf.reshape(-1, steps, 1, *leaf.shape[1:]), life)
    got = jax.lax.scan(lambda so_far, segment: (count(so_far, segment), None), nothing_seen(S, A), segments)[0]
    for ours, theirs in zip(got, counts, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def believed_of(counts, prior=PRIOR):
    """(mean, sd, concentration) by precisions, which add up."""
    precision = 1 / np.square(prior.reward_sd) + counts.visits / prior.noise_sd**2
    weighted = np.asarray(prior.reward_mean) / np.square(prior.reward_sd) + counts.rewards / prior.noise_sd**2
    return weighted / precision, precision**-0.5, np.asarray(prior.concentration) + counts.moves


@jax.jit
def draw_one(key, counts):
    return draw(key, posterior(known.belief.fit_prior(PRIOR, S, A), counts))


def test_the_posterior_adds_precisions_and_counts(counts):
    for ours, theirs in zip(posterior(known.belief.fit_prior(PRIOR, S, A), counts), believed_of(counts), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_rewards_that_are_known_stay_so(counts):
    sure = known.belief.fit_prior(Prior(TRUE_R, 0.0), S, A)
    mean, sd, _ = posterior(sure, counts)
    np.testing.assert_allclose(mean, TRUE_R, rtol=1e-6)
    np.testing.assert_array_equal(sd, np.zeros((S, A)))


def test_draws_have_the_moments_of_the_posterior(counts):
    mean, sd, concentration = believed_of(counts)
    believed = posterior(known.belief.fit_prior(PRIOR, S, A), counts)
    number = 10_000
    keys = jax.random.split(jax.random.key(0), number)
    transition, reward = map(np.asarray, jax.vmap(draw_one, (0, None))(keys, counts))
    np.testing.assert_allclose(transition.sum(-1), 1.0, rtol=1e-5)
    whole = concentration.sum(-1, keepdims=True)
    share = concentration / whole
    spread = np.sqrt(share * (1 - share) / (whole + 1))
    np.testing.assert_allclose(expected(believed)[0], share, rtol=1e-5)
    assert (np.abs(transition.mean(0) - share) < 4.5 * spread / number**0.5).all()
    assert (np.abs(reward.mean(0) - mean) < 4.5 * sd / number**0.5).all()
    assert (np.abs(reward.std(0) / sd - 1) < 4.5 / (2 * number) ** 0.5).all()
    fourth = np.mean((transition - share) ** 4, 0)
    assert (np.abs(np.mean((transition - share) ** 2, 0) - spread**2) < 4.5 * np.sqrt(fourth / number)).all()


# --- the plans


def table_of(make, counts=None, key=0, **options):
    """What a strategy plans to do after these counts, [H, S, A]."""
    learner = make(SIZES, **{"prior": PRIOR, **options})
    key, slow = jax.random.key(key), first_slow(learner, jax.random.key(0))
    if counts is None:
        return np.asarray(jax.jit(learner.begin)(key, slow).q)
    seen = known.Planned(jax.tree.map(jnp.float32, counts), jnp.zeros((H, S, A)))
    rests = Transition(
        jnp.zeros((0, 1, S + 2)), jnp.zeros((0, 1), int), jnp.zeros((0, 1)), jnp.zeros((0, 1, S + 2)), None, None
    )
    return np.asarray(jax.jit(learner.adapt)(key, slow, seen, rests)[0].q)


ALL = {
    "psrl": known.psrl,
    "opsrl": known.opsrl,
    "greedy": known.greedy,
    "epsilon-greedy": functools.partial(known.epsilon_greedy, epsilon=0.0),
    "beb": functools.partial(known.beb, beta=0.0),
    "count bonus": functools.partial(known.count_bonus, scale=0.0),
    "ucrl2": functools.partial(known.ucrl2, scale=0.0),
}


@pytest.mark.parametrize("name", ALL)
def test_in_an_mdp_that_is_known_every_strategy_that_plans_is_value_iteration(name):
    sharp = Prior(TRUE_R, 0.0, 1.0, 1e7 * TRUE_P)
    np.testing.assert_allclose(table_of(ALL[name], prior=sharp), solved(TRUE_P, TRUE_R), atol=1e-2)


def means(counts):
    mean, _, concentration = believed_of(counts)
    return concentration / concentration.sum(-1, keepdims=True), mean


@pytest.mark.parametrize(
    ("make", "bonus"),
    [
        (known.greedy, lambda counts: 0.0),
        (functools.partial(known.beb, beta=3.0), lambda counts: 3.0 / (1 + believed_of(counts)[2].sum(-1))),
        (functools.partial(known.count_bonus, scale=0.1), lambda counts: 0.1 * 2 * H**2 / (1 + counts.visits)),
    ],
    ids=["greedy", "beb", "count bonus"],
)
def test_planning_in_the_mean_with_a_bonus(counts, make, bonus):
    transition, reward = means(counts)
    np.testing.assert_allclose(table_of(make, counts), solved(transition, reward + bonus(counts)), atol=TIE)


@pytest.mark.parametrize(("make", "samples"), [(known.psrl, None), (functools.partial(known.opsrl, samples=3), 3)])
def test_psrl_plans_in_a_draw_and_opsrl_in_the_best_of_several(counts, make, samples):
    key = jax.random.split(jax.random.key(7))[0]
    keys = key[None] if samples is None else jax.random.split(key, samples)
    draws = [map(np.asarray, draw_one(key, counts)) for key in keys]
    best = np.max([solved(*one) for one in draws], 0)
    np.testing.assert_allclose(table_of(make, counts, key=7), best, atol=TIE)


def programme(p, values, slack):
    """The largest q · values of a distribution q with |q − p|₁ ≤ slack: by q = p + up − down, up and down ≥ 0."""
    n = len(p)
    bounded = np.vstack([np.ones(2 * n), np.hstack([-np.eye(n), np.eye(n)])])
    sums = np.hstack([np.ones(n), -np.ones(n)])[None]
    best = linprog(-np.hstack([values, -values]), A_ub=bounded, b_ub=[slack, *p], A_eq=sums, b_eq=[0.0])
    return p @ values - best.fun


def test_the_optimistic_expectation_solves_its_linear_programme():
    rng = np.random.default_rng(1)
    transition = rng.dirichlet(np.full(5, 0.4), (4, 3))
    slack = rng.choice([0.0, 0.1, 0.5, 1.2, 2.5], (4, 3))
    for values in (rng.normal(size=5), np.array([1.0, 0.0, 1.0, 0.0, 0.5]), np.zeros(5)):
        got = optimistic_expectation(jnp.float32(transition), jnp.float32(slack))(jnp.float32(values))
        best = [[programme(transition[s, a], values, slack[s, a]) for a in range(3)] for s in range(4)]
        np.testing.assert_allclose(got, best, atol=1e-5)


def test_ucrl2_plans_in_the_best_mdp_within_its_bounds(counts):
    scale, delta, time = 0.2, 0.1, H * EPISODES + 1
    (transition, reward), visits = means(counts), np.maximum(counts.visits, 1)
    width = scale * np.sqrt(7 * np.log(2 * S * A * time / delta) / (2 * visits))
    slack = scale * np.sqrt(14 * S * np.log(2 * A * time / delta) / visits)
    best = backward(reward + width, lambda s, a, values: programme(transition[s, a], values, slack[s, a]))
    np.testing.assert_allclose(table_of(known.ucrl2, counts, scale=scale, delta=delta), best, atol=TIE)


def test_the_index_of_an_action(counts):
    early = counts._replace(visits=counts.visits * 0.5)  # with ten of the trial's twenty steps left
    mean, sd, _ = believed_of(early)
    best = mean + 0.9 * sd * np.sqrt(np.log(1 + 10 / S))
    np.testing.assert_allclose(table_of(known.index, early, width=0.9), np.broadcast_to(best, (H, S, A)), atol=TIE)


def tables(make, number, **options):
    """The tables [number, H, S, A] of plans with as many keys, before anything was seen."""
    learner = make(SIZES, **options)
    slow = first_slow(learner, jax.random.key(0))
    return np.asarray(jax.vmap(lambda key: learner.begin(key, slow).q)(jax.random.split(jax.random.key(1), number)))


def test_epsilon_greedy_explores_as_often_as_it_says_and_in_each_step_on_its_own():
    number, epsilon = 4_000, 0.3
    greedily = solved(*means(jax.tree.map(np.asarray, nothing_seen(S, A)))).argmax(-1)
    differs = tables(known.epsilon_greedy, number, prior=PRIOR, epsilon=epsilon).argmax(-1) != greedily
    rate = epsilon / 2  # half of the random actions are the greedy one
    for share, wanted in ((differs, rate), (differs[:, 1:, 0] & differs[:, :-1, 1], rate**2)):
        error = np.sqrt(wanted / number)
        assert (np.abs(share.mean(0) - wanted) < 4.5 * error).all()


def test_ties_are_broken_at_random_in_each_step():
    number = 4_000
    first = tables(known.greedy, number, prior=DUAN).argmax(-1) == 0
    assert (np.abs(first.mean(0) - 0.5) < 4.5 * 0.5 / number**0.5).all()
    both = first[:, 1:, 0] & first[:, :-1, 0]
    assert (np.abs(both.mean(0) - 0.25) < 4.5 * np.sqrt(0.1875 / number)).all()


# --- acting


def test_a_plan_is_looked_up_by_state_and_step_of_the_episode():
    sizes = known.Sizes(2, 3, 10, 100)
    learner = known.greedy(sizes, DUAN)
    table = jnp.arange(60.0).reshape(10, 2, 3)
    time = np.arange(1000)
    obs = jnp.float32(np.column_stack([np.eye(2)[time % 7 % 2], time % 10 == 0, np.float32(time) / np.float32(1000)]))
    got = jax.vmap(lambda o: learner.q(None, known.Planned(nothing_seen(2, 3), table), o))(obs)
    np.testing.assert_array_equal(got, table[time % 10, time % 7 % 2])


PUBLISHED = {  # REFERENCES of ten episodes: how, steps between plans, and the number (Duan et al. 2016, or a simulation)
    "PSRL": (functools.partial(known.psrl, prior=Prior(reward_mean=0.0)), 10, 138.1),
    "greedy": (functools.partial(known.greedy, prior=DUAN), 10, 154.4),
    "count bonus": (functools.partial(known.count_bonus, prior=DUAN, scale=0.0025), 10, 157.7),
    "index": (functools.partial(known.index, prior=DUAN), 1, 162.4),
}


@pytest.fixture(scope="module")
def held():
    """The published family in trials, with 512 held-out MDPs and the optimal return of a trial in each."""
    family = in_trials(tabular())
    tasks = jax.jit(lambda key: sample_tasks(key, family.split.test, 512))(jax.random.key(0))
    optima = jax.jit(lambda key, tasks: optimal_returns(key, family.optimum, tasks, episodes=1))(jax.random.key(1), tasks)
    return family, tasks, 10 * np.asarray(optima)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_returns(held, name):
    """Against the optimum in the same MDPs, which takes most of the noise out; published means are of 1,000 other ones."""
    (family, tasks, optima), (make, every, published) = held, PUBLISHED[name]
    learner = make(known.sizes_of(family))
    slow = first_slow(learner, jax.random.key(0))
    span, points = Span(100 // every, every, 1), tuple(range(1, 11))
    lived = functools.partial(trial_returns, span=span, horizon=10, episodes=1, chunk=64)
    returns = jax.jit(lambda key, tasks: lived(key, learner, slow, family.split.test, tasks, points))(jax.random.key(2), tasks)
    regret = optima - np.asarray(returns).sum(1)
    error = np.hypot(regret.std() / 512**0.5, 0.8)
    assert abs(218.7 - regret.mean() - published) < 3 * error
    assert regret.mean() > 30  # nothing that has to explore is near the optimum


# --- the family, and what is refused


def test_a_family_draws_from_its_prior():
    prior = Prior(2.0, np.array([0.5, 3.0]), 0.1, np.array([0.2, 0.2, 1.6]))
    family, number = tabular(3, 2, 5, episodes=7, prior=prior), 2_000
    tasks = jax.jit(lambda key: sample_tasks(key, family.split.train, number))(jax.random.key(0))
    assert family.trial.span == Span(35, 1, 1)
    np.testing.assert_allclose(tasks.noise, 0.1, rtol=1e-6)
    reward, transition = np.asarray(tasks.reward), np.asarray(tasks.transition)
    sd = np.broadcast_to([0.5, 3.0], (3, 2))
    assert (np.abs(reward.mean(0) - 2.0) < 4.5 * sd / number**0.5).all()
    assert (np.abs(reward.std(0) / sd - 1) < 4.5 / (2 * number) ** 0.5).all()
    share = np.array([0.1, 0.1, 0.8])
    spread = np.sqrt(share * (1 - share) / 3.0)
    assert (np.abs(transition.mean(0) - share) < 4.5 * spread / number**0.5).all()
    assert (np.abs(transition.std(0) / spread - 1) < 0.1).all()


def test_the_usual_prior_is_flat():
    """P(s' | s, a) > x with probability (1 − x)^(S − 1), in draws that do not come from gammas."""
    train = tabular(S, A, H).split.train
    tasks = jax.jit(lambda key: sample_tasks(key, train, 4_000))(jax.random.key(0))
    for x in (0.1, 0.5, 0.8):
        rate = (1 - x) ** 2
        error = np.sqrt(rate * (1 - rate) / 4_000)
        assert (np.abs((np.asarray(tasks.transition) > x).mean(0) - rate) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward_mean": np.zeros((A, S))}, r"reward_mean must broadcast to \[3, 2\], got the shape \[2, 3\]"),
        ({"reward_sd": np.zeros((1, S, A))}, r"reward_sd must broadcast to \[3, 2\]"),
        ({"noise_sd": np.ones(A)}, r"noise_sd must broadcast to \[\]"),
        ({"concentration": np.ones(A)}, r"concentration must broadcast to \[3, 2, 3\]"),
        ({"reward_mean": np.nan}, "reward_mean must be a finite number between .*, got nan"),
        ({"reward_sd": np.array([1.0, -1.0])}, "reward_sd must be a finite number between 0 and .*, got -1.0"),
        ({"noise_sd": 0.0}, "noise_sd must be .* got 0.0"),
        ({"concentration": 0.0}, "concentration must be .* got 0.0"),
    ],
)
def test_priors_that_are_none(changes, said):
    prior = Prior(**changes)
    for build in (lambda: known.psrl(SIZES, prior), lambda: tabular(S, A, H, prior=prior)):
        with pytest.raises(Misuse, match=f"the prior's {said}.*; change .*\\.$"):
            build()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: known.opsrl(SIZES, DUAN, samples=0), "samples must be"),
        (lambda: known.epsilon_greedy(SIZES, DUAN, epsilon=1.5), "epsilon must be"),
        (lambda: known.beb(SIZES, DUAN, beta=-1.0), "beta must be"),
        (lambda: known.count_bonus(SIZES, DUAN, scale=-0.1), "scale must be"),
        (lambda: known.ucrl2(SIZES, DUAN, scale=-0.1), "scale must be"),
        (lambda: known.ucrl2(SIZES, DUAN, delta=0.0), "delta must be"),
        (lambda: known.index(SIZES, DUAN, width=-0.7), "width must be"),
        (lambda: known.greedy(SIZES._replace(horizon=0), DUAN), "horizon must be"),
        (lambda: tabular(S, A, H, episodes=0), "episodes must be"),
        (
            lambda: known.greedy(SIZES, DUAN).q(None, None, jnp.zeros(S)),
            r"observations .* must have the shape \[5\], got \[3\]",
        ),
    ],
)
def test_choices_that_are_none(build, said):
    with pytest.raises(Misuse, match=f"^{said}.*; .*\\.$"):
        build()


@pytest.mark.parametrize("changes", [{"noise_sd": 1e-9, "reward_sd": 1e9}, {"noise_sd": 1e9, "reward_sd": 1e-9}])
def test_the_widest_priors_stay_within_float32(changes):
    prior = fit_prior(Prior(**changes), S, A)
    seen = Counts(jnp.full((S, A), 1e4), jnp.full((S, A), 2e4), jnp.zeros((S, A, S)))
    for counts, mean in ((nothing_seen(S, A), 1.0), (seen, 2.0 if changes["noise_sd"] < 1 else 1.0)):
        believed = posterior(prior, counts)
        np.testing.assert_allclose(believed.mean, mean)
        assert np.isfinite(believed.sd).all()
