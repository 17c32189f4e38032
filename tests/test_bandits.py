"""Bandits against NumPy twins, their optimum and index computed in other ways, and the numbers of Duan et al. (2016)."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metadqn_jax.checks import Misuse
from metadqn_jax.environments.bandit import Bandit, BernoulliBandit, GaussianBandit
from metadqn_jax.evaluation import trial_returns
from metadqn_jax.loops import repeat
from metadqn_jax.planners import bandit
from metadqn_jax.planners import bandit_strategies as strategies
from metadqn_jax.planners.bandit import bayes_optimal, gittins_index
from metadqn_jax.planners.bandit_belief import beta, beta_prior, normal_prior
from metadqn_jax.tasks.bandit import bernoulli_bandit, gaussian_bandit
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.trials import in_trials
from metadqn_jax.types import Slow, Span, Transition

NOTHING = Slow((), (), (), jnp.int32(0))

# --- the environment


def live(params, actions):
    """gymnax's own reset and steps: the first observation, and per step what came."""
    env = Bandit(params)

    @jax.jit
    def lived(key, params, actions):
        key_reset, key_steps = jax.random.split(key)
        first, state = env.reset(key_reset, params)

        def step(key, t, state):
            obs, state, reward, terminated, truncated, info = env.step(key, state, actions[t], params)
            return state, (obs, info["final_observation"], reward, terminated, truncated)

        return first, repeat(key_steps, len(actions), step, state)[1]

    first, rows = lived(jax.random.key(0), params, jnp.int32(actions))
    return np.asarray(first), list(map(np.asarray, rows))


@pytest.mark.parametrize(
    "params",
    [
        BernoulliBandit(means=jnp.array([0.0, 1.0, 0.0, 1.0]), max_steps_in_episode=7),
        GaussianBandit(means=jnp.array([-2.0, 0.5, 3.0, 1.0]), noise=0.0, max_steps_in_episode=7),
    ],
    ids=lambda params: type(params).__name__,
)
def test_bandits_that_are_certain_equal_their_numpy_twin(params):
    actions = np.random.default_rng(0).integers(4, size=20)
    first, (obs, successor, reward, terminated, truncated) = live(params, actions)
    np.testing.assert_array_equal(first, [1.0])
    np.testing.assert_array_equal(obs, np.ones((20, 1)))
    np.testing.assert_array_equal(successor, np.ones((20, 1)))
    np.testing.assert_array_equal(reward, np.asarray(params.means)[actions])
    assert not terminated.any()
    np.testing.assert_array_equal(np.flatnonzero(truncated), [6, 13])


def test_rewards_are_drawn_as_the_arms_say():
    means, draws = np.array([0.1, 0.5, 0.8]), 3_000
    actions = np.arange(3 * draws) % 3
    _, (_, _, paid, _, _) = live(BernoulliBandit(means=jnp.float32(means)), actions)
    paid = paid.reshape(draws, 3)
    assert set(paid.ravel()) == {0.0, 1.0}
    assert (np.abs(paid.mean(0) - means) < 4.5 * np.sqrt(means * (1 - means) / draws)).all()
    _, (_, _, paid, _, _) = live(GaussianBandit(means=jnp.float32(means), noise=2.0), actions)
    standard = (paid.reshape(draws, 3) - means) / 2.0
    assert all(stats.kstest(arm, stats.norm.cdf).pvalue > 1e-4 for arm in standard.T)


@pytest.mark.parametrize("params", [BernoulliBandit(means=jnp.zeros(3)), GaussianBandit(means=jnp.zeros(3))])
def test_spaces_describe_the_environment(params):
    env = Bandit(params)
    obs, _ = env.reset(jax.random.key(2), env.default_params)
    space = env.observation_space(params)
    assert (obs.shape, obs.dtype) == (space.shape, space.dtype)
    assert env.action_space(params).n == env.num_actions == 3


# --- the families


def drawn(side, count):
    return jax.jit(lambda key: sample_tasks(key, side, count))(jax.random.key(1))


FAMILIES = {
    "bernoulli": (bernoulli_bandit(3, 4), stats.uniform(0, 1)),
    "gaussian": (gaussian_bandit(3, 4, mean=1.0, spread=2.0, noise=0.5), stats.norm(1, 2)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_means_are_independent_draws_from_the_prior_on_both_sides(name):
    family, prior = FAMILIES[name]
    train, test = (np.asarray(drawn(side, 2_000).means) for side in family.split)
    for means in (train, test):
        assert all(stats.kstest(arm, prior.cdf).pvalue > 1e-4 for arm in means.T)
        assert np.abs(np.corrcoef(means.T)[np.triu_indices(3, 1)]).max() < 4.5 / np.sqrt(2_000)
    assert not set(map(tuple, train.tolist())) & set(map(tuple, test.tolist()))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_knows_its_tasks(name):
    family, _ = FAMILIES[name]
    tasks = drawn(family.split.test, 50)
    assert family.horizon == 4
    assert set(np.asarray(tasks.max_steps_in_episode)) == {4}
    assert name != "gaussian" or set(np.asarray(tasks.noise)) == {0.5}
    means = np.asarray(tasks.means)
    np.testing.assert_array_equal(jax.vmap(family.features)(tasks), means)
    optima = jax.vmap(family.optimum)(jax.random.split(jax.random.key(2), 50), tasks)
    np.testing.assert_allclose(optima, 4 * means.max(1), rtol=1e-6)


def test_a_trial_is_one_episode():
    family, _ = FAMILIES["bernoulli"]
    trials, task = in_trials(family).split.test, jax.tree.map(lambda leaf: leaf[0], drawn(family.split.test, 1))
    key_reset, key_steps = jax.random.split(jax.random.key(3))
    world, obs = trials.reset(key_reset, task)
    shown, ended, step = [obs], [], jax.jit(trials.step)
    for key in jax.random.split(key_steps, 4):
        world, seen = step(key, task, world, jnp.int32(0))
        shown.append(seen.transition_obs)
        ended.append(bool(seen.terminated))
    np.testing.assert_array_equal(np.stack(shown)[:, 1:], [[1, 0], [0, 0.25], [0, 0.5], [0, 0.75], [0, 1]])
    assert ended == [False, False, False, True]
    assert in_trials(family).recipe.span == Span(4, 1, 1)


# --- the Bayes optimum


def by_histories(arms, pulls):
    """The best expected return, by induction over whole histories of (arm, reward), which no symmetry shortens."""

    def value(history):
        if len(history) == pulls:
            return 0.0
        options = []
        for arm in range(arms):
            paid = [reward for pulled, reward in history if pulled == arm]
            chance = (1 + sum(paid)) / (2 + len(paid))
            won, lost = (value([*history, (arm, reward)]) for reward in (1, 0))
            options.append(chance * (1 + won) + (1 - chance) * lost)
        return max(options)

    return value([])


@pytest.mark.parametrize(("arms", "pulls"), [(1, 4), (2, 1), (2, 5), (3, 4), (5, 3)])
def test_the_bayes_optimum_is_that_of_induction_over_histories(arms, pulls):
    assert bayes_optimal(arms, pulls) == pytest.approx(by_histories(arms, pulls), abs=1e-12)


def test_the_bayes_optimum_is_that_of_the_best_of_all_policies():
    """Two arms, three pulls: a policy is an arm for each of the 1 + 2 + 4 sequences of rewards."""
    successes = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
    totals = []
    for policy in itertools.product((0, 1), repeat=len(successes)):
        acts, total = dict(zip(successes, policy, strict=True)), 0.0
        for rewards in itertools.product((0, 1), repeat=3):
            pulled = [acts[rewards[:t]] for t in range(3)]
            likelihood = 1.0
            for arm in (0, 1):  # ∫ p^s (1 − p)^f dp, exactly
                seen = [reward for reward, which in zip(rewards, pulled, strict=True) if which == arm]
                likelihood /= (len(seen) + 1) * math.comb(len(seen), sum(seen))
            total += likelihood * sum(rewards)
        totals.append(total)
    assert bayes_optimal(2, 3) == pytest.approx(max(totals), abs=1e-12)


def test_the_bayes_optimum_of_one_arm_is_its_mean_however_many_pulls():
    assert bayes_optimal(1, 5_000) == 2_500.0


@pytest.mark.parametrize(("prior", "bound"), [((1.0, 1.0), 1e-4), ((1.0, 1000.0), 1e-3)])
def test_the_gittins_index_is_as_exact_as_it_says(monkeypatch, prior, bound):
    usual = gittins_index(20, 0.9, prior)
    monkeypatch.setattr(bandit, "CHARGES", 8192)
    assert np.abs(usual - gittins_index(20, 0.9, prior)).max() < bound


def test_a_draw_of_no_finite_beta_ends():
    drawn = beta(jax.random.key(0), jnp.array([jnp.inf, 2.0]), jnp.array([1.0, 2.0]))
    assert np.isfinite(drawn).tolist() == [False, True]


@pytest.mark.parametrize(("arms", "optimum"), [(5, 6.660), (10, 6.714), (50, 6.714)])
def test_the_bayes_optimum_of_ten_pulls(arms, optimum):
    assert bayes_optimal(arms, 10) == pytest.approx(optimum, abs=5e-4)


# --- the Gittins index


def by_restarts(successes, failures, discount, depth, prior):
    """The index as (1 − γ) times the value of an arm that may be put back to where it is now (Katehakis and Veinott 1987)."""
    s, f = np.indices((depth + 1, depth + 1))
    a, b = successes + prior[0] + s, failures + prior[1] + f
    p = a / (a + b)
    value = p / (1 - discount)
    for _ in range(200):
        following = p[:-1, :-1] * value[1:, :-1] + (1 - p[:-1, :-1]) * value[:-1, 1:]
        goes_on = p / (1 - discount)
        goes_on[:-1, :-1] = p[:-1, :-1] + discount * following
        value = np.maximum(goes_on, goes_on[0, 0])
    return (1 - discount) * value[0, 0]


@pytest.mark.parametrize("prior", [(1.0, 1.0), (2.0, 1.5)])
def test_the_index_is_that_of_an_arm_with_restarts(prior):
    table = gittins_index(6, discount=0.8, prior=prior)
    for state in [(0, 0), (3, 0), (0, 4), (2, 3), (6, 0)]:
        assert table[state] == pytest.approx(by_restarts(*state, 0.8, 50, prior), abs=5e-4), state


def test_the_index_of_the_literature():
    """Gittins, Glazebrook and Weber (2011), table 8.2 (discount 0.9) and 0.8699 at discount 0.99, under a uniform prior."""
    table = gittins_index(3, discount=0.9)
    np.testing.assert_allclose(table[0, :3], [0.7029, 0.5001, 0.3796], atol=2e-4)
    np.testing.assert_allclose(table[:3, 0], [0.7029, 0.8001, 0.8452], atol=2e-4)
    assert gittins_index(1, discount=0.99)[0, 0] == pytest.approx(0.8699, abs=2e-4)
    assert table[3, 1] == 0.0  # more than three pulls


@pytest.mark.parametrize(("pulls", "discount"), [(3, 0.5), (10, 0.8)])
def test_the_usual_discount_looks_half_of_the_pulls_ahead(pulls, discount):
    np.testing.assert_array_equal(gittins_index(pulls), gittins_index(pulls, discount))


# --- strategies


def transition(arm, reward):
    """A segment [T = 1, E = 1]."""
    obs, flag = jnp.zeros((1, 1, 3)), jnp.zeros((1, 1), bool)
    return Transition(obs, jnp.full((1, 1), arm, jnp.int32), jnp.full((1, 1), reward, jnp.float32), obs, flag, flag)


HISTORY = [(0, 1), (0, 1), (2, 0), (0, 0), (1, 1), (2, 0)]
SEEN = np.array([[2, 1, 0, 0], [1, 0, 2, 0]])


def scores_after(strategy, history, draws):
    """The scores [draws, arms] after a history, by key."""
    begin, adapt = jax.jit(strategy.begin), jax.jit(strategy.adapt)
    key_begin, key_last, *keys = jax.random.split(jax.random.key(4), 1 + len(history))
    belief = begin(key_begin, NOTHING)
    for key, pull in zip(keys, history[:-1], strict=True):
        belief, _ = adapt(key, NOTHING, belief, transition(*pull))
    last = jax.jit(jax.vmap(lambda key: strategy.adapt(key, NOTHING, belief, transition(*history[-1]))[0].scores))
    return np.asarray(last(jax.random.split(key_last, draws)))


def expected_scores(name, prior=(1, 1)):
    """What the strategies without a draw must score after HISTORY."""
    a, b = SEEN[0] + prior[0], SEEN[1] + prior[1]
    mean = a / (a + b)
    if name == "gittins":
        return [by_restarts(s, f, 0.8, 50, prior) for s, f in SEEN.T]
    return mean if name == "greedy" else mean + 0.3 * np.sqrt(2 * np.log(7) / (a + b))


@pytest.mark.parametrize("prior", [(1, 1), (3, 2)])
@pytest.mark.parametrize(
    ("name", "options"), [("greedy", {}), ("ucb1", {"constant": 0.3}), ("gittins", {"pulls": 10, "discount": 0.8})]
)
def test_scores_equal_their_numpy_twin(name, options, prior):
    strategy = getattr(strategies, name)(4, prior=prior if name == "gittins" else beta_prior(*prior), **options)
    scores = scores_after(strategy, HISTORY, 2)
    np.testing.assert_allclose(scores[0], expected_scores(name, prior), atol=5e-4)
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(
        strategy.q(NOTHING, strategies.Belief(SEEN.sum(0), SEEN[0], scores[0]), jnp.ones(1)), scores[0]
    )


@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.5, 2.0)])
def test_thompson_draws_from_the_posterior(prior):
    scores = scores_after(strategies.thompson(4, prior=beta_prior(*prior)), HISTORY, 4_000)
    for arm, (s, f) in enumerate(SEEN.T):
        assert stats.kstest(scores[:, arm], stats.beta(s + prior[0], f + prior[1]).cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(scores.T)[np.triu_indices(4, 1)]).max() < 4.5 / np.sqrt(4_000)


def test_optimistic_thompson_scores_no_arm_below_its_mean():
    scores = scores_after(strategies.optimistic_thompson(4), HISTORY, 4_000)
    for arm, (s, f) in enumerate(SEEN.T):
        posterior = stats.beta(s + 1, f + 1)
        floor = np.isclose(scores[:, arm], posterior.mean())
        below = posterior.cdf(posterior.mean())
        assert abs(floor.mean() - below) < 4.5 * np.sqrt(below * (1 - below) / 4_000)
        above = scores[~floor, arm]
        assert stats.kstest(above, lambda x, p=posterior, b=below: (p.cdf(x) - b) / (1 - b)).pvalue > 1e-4


def test_epsilon_greedy_wanders_as_often_as_it_says():
    chosen = scores_after(strategies.epsilon_greedy(4, epsilon=0.4), HISTORY, 8_000).argmax(1)
    shares, best = np.bincount(chosen, minlength=4) / 8_000, int(expected_scores("greedy").argmax())
    expected = np.full(4, 0.1) + 0.6 * (np.arange(4) == best)
    assert (np.abs(shares - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 8_000)).all()


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (1.0, 40.0), (300.0, 200.0), (2.5, 1.0)])
def test_beta_draws_from_the_beta_distribution(a, b):
    draw = jax.jit(lambda key: beta(key, jnp.full(20_000, a), jnp.full(20_000, b)))
    assert stats.kstest(np.asarray(draw(jax.random.key(5))), stats.beta(a, b).cdf).pvalue > 1e-4


def test_an_arm_pulled_more_often_than_gittins_looks_ahead_scores_its_mean():
    scores = scores_after(strategies.gittins(4, 3), [(0, 1)] * 4 + [(1, 0)], 1)[0]
    assert scores[0] == pytest.approx(5 / 6)
    assert scores[1] == pytest.approx(gittins_index(3)[0, 1])


@pytest.mark.parametrize(
    "build",
    [
        strategies.thompson,
        lambda arms: strategies.thompson(arms, prior=beta_prior(0.5, 0.5)),
        strategies.greedy,
        lambda arms: strategies.gittins(arms, 10),
    ],
)
def test_rewards_that_no_bernoulli_arm_pays_end_as_nan(build):
    assert np.isnan(scores_after(build(2), [(0, 1), (0, 3.5)], 1)[0, 0])


def test_a_segment_of_several_pulls_counts_them_all():
    greedy = strategies.greedy(4)
    one_by_one = scores_after(greedy, HISTORY, 1)[0]
    parts = [transition(*pull) for pull in HISTORY]
    segment = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    belief, _ = greedy.adapt(jax.random.key(6), NOTHING, greedy.begin(jax.random.key(7), NOTHING), segment)
    np.testing.assert_array_equal(belief.pulls, SEEN.sum(0))
    np.testing.assert_array_equal(belief.paid, SEEN[0])
    np.testing.assert_allclose(belief.scores, one_by_one, rtol=1e-6)


# --- arms that pay any number

PAID = [(0, 2.0), (0, -1.0), (2, 0.5), (0, 3.0), (1, -2.0)]
NORMAL = {"mean": 0.5, "spread": 2.0, "noise": 1.5}


def by_quadrature(arm):
    """The mean and standard deviation of an arm's posterior after PAID, from a fine grid of means."""
    means = np.linspace(-15, 15, 30_001)
    log = stats.norm(NORMAL["mean"], NORMAL["spread"]).logpdf(means)
    log += sum(stats.norm(means, NORMAL["noise"]).logpdf(paid) for which, paid in PAID if which == arm)
    weights = np.exp(log - log.max())
    mean = np.average(means, weights=weights)
    return mean, np.sqrt(np.average((means - mean) ** 2, weights=weights))


def test_a_normal_posterior_is_that_of_a_grid_of_means():
    prior, posteriors = normal_prior(**NORMAL), np.array([by_quadrature(arm) for arm in range(4)]).T
    np.testing.assert_allclose(scores_after(strategies.greedy(4, prior=prior), PAID, 1)[0], posteriors[0], rtol=1e-4)
    scores = scores_after(strategies.thompson(4, prior=prior), PAID, 4_000)
    for arm, (mean, sd) in enumerate(posteriors.T):
        assert stats.kstest(scores[:, arm], stats.norm(mean, sd).cdf).pvalue > 1e-4
    pulls = np.bincount([arm for arm, _ in PAID], minlength=4) + (NORMAL["noise"] / NORMAL["spread"]) ** 2
    expected = posteriors[0] + 0.3 * np.sqrt(2 * np.log(6) / pulls)
    np.testing.assert_allclose(
        scores_after(strategies.ucb1(4, constant=0.3, prior=prior), PAID, 1)[0], expected, rtol=1e-4, atol=1e-5
    )


def test_two_pulls_of_gaussian_arms_return_what_the_integral_says():
    """After one pull of two arms N(0, 1) with noise 1 the better posterior mean is max(0, N(0, 1/2)): √(1 / 4π) on average."""
    returns, _ = played(strategies.greedy(2, prior=normal_prior()), 2, 2, 20_000, gaussian_bandit)
    assert abs(returns.mean() - np.sqrt(1 / (4 * np.pi))) < 3.5 * returns.std() / np.sqrt(20_000)


def test_on_gaussian_arms_what_explores_returns_more_than_what_does_not():
    greedy, ucb = (strategies.greedy(5, prior=normal_prior()), strategies.ucb1(5, constant=0.5, prior=normal_prior()))
    (first, optima), (second, _) = (played(one, 5, 100, 500, gaussian_bandit) for one in (greedy, ucb))
    assert (second - first).mean() > 3.5 * (second - first).std() / np.sqrt(500)
    assert second.mean() < optima.mean()


# --- the published table


def played(strategy, arms, pulls, tasks, bandit=bernoulli_bandit):
    """Returns [tasks] of a strategy on held-out tasks, and their optima."""
    test = in_trials(bandit(arms, pulls)).split.test
    sizes = {"span": Span(pulls, 1, 1), "horizon": pulls, "episodes": 1, "chunk": tasks}
    judge = jax.jit(lambda key, held: trial_returns(key, strategy, NOTHING, test, held, (1,), **sizes))
    held = drawn(test, tasks)
    return np.asarray(judge(jax.random.key(8), held))[:, 0], pulls * np.asarray(held.means).max(1)


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (lambda: strategies.gittins(5, 100), 78.3),
        (lambda: strategies.thompson(5), 74.7),
        (lambda: strategies.ucb1(5), 78.0),
        (lambda: strategies.greedy(5), 74.8),
    ],
    ids=["gittins", "thompson", "ucb1", "greedy"],
)
def test_strategies_return_what_is_published(build, published):
    """100 pulls of 5 arms (Duan et al. 2016, table 1), whose means are taken to be over as many tasks as ours."""
    returns, optima = played(build(), 5, 100, 2_000)
    assert abs(returns.mean() - published) < 3 * np.sqrt(2) * returns.std() / np.sqrt(2_000)
    assert returns.mean() < optima.mean()


def test_the_index_plays_ten_pulls_as_well_as_anything_can():
    returns, _ = played(strategies.gittins(5, 10), 5, 10, 10_000)
    error = returns.std() / np.sqrt(10_000)
    assert abs(returns.mean() - bayes_optimal(5, 10)) < 3.5 * error
    assert played(strategies.thompson(5), 5, 10, 1_000)[0].mean() < bayes_optimal(5, 10) - 3.5 * np.sqrt(10) * error


# --- misuse


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: bernoulli_bandit(arms=0), "arms"),
        (lambda: bernoulli_bandit(pulls=2.0), "pulls"),
        (lambda: gaussian_bandit(arms=-1), "arms"),
        (lambda: gaussian_bandit(spread=0.0), "spread"),
        (lambda: gaussian_bandit(noise=-1.0), "noise"),
        (lambda: gaussian_bandit(mean=np.nan), "mean"),
        (lambda: bayes_optimal(0, 3), "arms"),
        (lambda: bayes_optimal(3, 0), "pulls"),
        (lambda: gittins_index(0), "pulls"),
        (lambda: gittins_index(5, discount=1.0), "discount"),
        (lambda: gittins_index(5, prior=(0.0, 1.0)), "prior"),
        (lambda: strategies.greedy(0), "arms"),
        (lambda: strategies.thompson(3, prior=beta_prior(0.0, 1.0)), "successes"),
        (lambda: strategies.greedy(3, prior=normal_prior(noise=0.0)), "noise"),
        (lambda: strategies.ucb1(3, constant=-1.0), "constant"),
        (lambda: strategies.epsilon_greedy(3, epsilon=1.5), "epsilon"),
    ],
)
def test_misuse_is_one_sentence(build, name):
    with pytest.raises(Misuse, match=rf"^{name} must .*, got .*; change {name}\.$"):
        build()


def test_a_prior_says_what_arms_pay():
    with pytest.raises(
        Misuse, match=r"^prior must be an ArmPrior, got a tuple; take beta_prior\(2, 1\) or normal_prior\(\), say\.$"
    ):
        strategies.greedy(3, prior=(2.0, 1.0))
