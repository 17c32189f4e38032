"""TD losses against naive loops, rlax, and hand computation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax import td
from metadqn_jax.actions import Support, discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.types import Transition

T, A, GAMMA, LAMBDA = 12, 3, 0.9, 0.7
PLAIN, BINNED = discrete(A), discrete(A, Support(-4.0, 4.0, 7))
SELECTS = {
    "greedy": td.greedy,
    "double": td.double,
    "expected_sarsa": td.expected_sarsa(0.5),
    "munchausen": td.munchausen(0.3),
}
TARGETS = {
    "one_step": td.one_step(GAMMA),
    "n_step": td.n_step(GAMMA, 3),
    "lambda_return": td.lambda_return(GAMMA, LAMBDA),
}
REGRESSIONS = {
    "squared": (PLAIN, td.squared),
    "huber": (PLAIN, td.huber(0.8)),
    "hl_gauss": (BINNED, td.hl_gauss()),
}
SEEDS = range(4)


def draw(seed, head=PLAIN):
    """Random Views and Transition of one stream [T], with terminations and truncations, in float32."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    views = td.Views(*(normal(T, head.width) for _ in range(4)))
    ends = rng.choice(3, T, p=[0.6, 0.2, 0.2])  # goes on, terminates, is truncated
    action = jnp.asarray(rng.integers(A, size=T), jnp.int32)
    return views, Transition(normal(T, 4), action, normal(T), normal(T, 4), jnp.array(ends == 1), jnp.array(ends == 2))


def rows(seed):
    """(reward, value, terminated, truncated), each [T]."""
    views, stream = draw(seed)
    return stream.reward, views.bootstrap_next[:, 0], stream.terminated, stream.truncated


def close(a, b, tolerance=1e-5):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


# --- every combination


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_every_combination_is_finite_and_the_same_under_jit(regression):
    head, regress = REGRESSIONS[regression]
    views, stream = draw(0, head)
    losses = [
        td.temporal_difference(head, select=select, target=target, regression=regress)
        for select, target in itertools.product(SELECTS.values(), TARGETS.values())
    ]

    def all_losses(views, stream):
        return jnp.stack([loss(views, stream) for loss in losses])

    @jax.jit
    def losses_and_gradients(views, stream):
        result, pull = jax.vjp(lambda views: all_losses(views, stream), views)
        return result, pull(jnp.ones_like(result))[0]

    eager = all_losses(views, stream)
    assert eager.shape == (len(losses), T)
    assert eager.dtype == jnp.float32
    assert np.isfinite(eager).all()
    jitted, gradients = losses_and_gradients(views, stream)
    close(jitted, eager)
    assert all(np.isfinite(leaf).all() for leaf in gradients)
    assert not gradients.next.any()  # read only to choose


def test_reward_scale_multiplies_rewards_and_nothing_else():
    views, stream = draw(1)

    def loss(scale):
        parts = {"select": SELECTS["munchausen"], "target": TARGETS["n_step"], "regression": td.squared}
        return td.temporal_difference(PLAIN, **parts, reward_scale=scale)

    close(loss(0.3)(views, stream), loss(1.0)(views, stream._replace(reward=0.3 * stream.reward)))


# --- targets


def naive_n_step(reward, value, terminated, truncated, n):
    returns = []
    for t in range(T):
        total, factor = 0.0, 1.0
        for k in range(t, min(t + n, T)):
            total, factor = total + factor * reward[k], factor * GAMMA
            if terminated[k] or truncated[k]:
                break
        returns.append(total + (0.0 if terminated[k] else factor * value[k]))
    return returns


def naive_lambda_return(reward, value, terminated, truncated, trace):
    returns = [0.0] * T
    for t in reversed(range(T)):
        cut = terminated[t] or truncated[t] or t == T - 1
        following = value[t] if cut else (1 - trace) * value[t] + trace * returns[t + 1]
        returns[t] = reward[t] + (0.0 if terminated[t] else GAMMA * following)
    return returns


def monte_carlo(reward, value, terminated, truncated):
    """Discounted rewards up to the cut, where a stream that does not terminate bootstraps."""
    return naive_n_step(reward, value, terminated, truncated, T)


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_equal_naive_loops(seed):
    one = rows(seed)
    plain = [np.asarray(x) for x in one]
    close(td.one_step(GAMMA)(*one), plain[0] + GAMMA * ~plain[2] * plain[1])
    for n in (1, 2, 5):
        close(td.n_step(GAMMA, n)(*one), naive_n_step(*plain, n))
    for trace in (0.0, LAMBDA, 1.0):
        close(td.lambda_return(GAMMA, trace)(*one), naive_lambda_return(*plain, trace))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ends_of_lambda_and_n(seed):
    one = rows(seed)
    whole = monte_carlo(*map(np.asarray, one))
    close(td.lambda_return(GAMMA, 0.0)(*one), td.one_step(GAMMA)(*one))
    close(td.lambda_return(GAMMA, 1.0)(*one), whole)
    close(td.n_step(GAMMA, T)(*one), whole)
    close(td.n_step(GAMMA, T + 3)(*one), whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_equal_rlax(seed):
    rlax = pytest.importorskip("rlax")
    reward, value, terminated, truncated = one = rows(seed)
    discount, goes_on = GAMMA * (1.0 - terminated), 1.0 - truncated
    close(td.lambda_return(GAMMA, LAMBDA)(*one), rlax.lambda_returns(reward, discount, value, LAMBDA * goes_on))
    for n in (1, 3):
        twin = rlax.n_step_bootstrapped_returns(reward, discount, value, n, lambda_t=goes_on)
        close(td.n_step(GAMMA, n)(*one), twin)


def test_truncation_bootstraps_from_the_true_successor_and_termination_does_not():
    reward, value = jnp.ones(3), jnp.array([10.0, 20.0, 30.0])
    never, middle = jnp.zeros(3, bool), jnp.array([False, True, False])
    for target in (td.n_step(0.5, 3), td.lambda_return(0.5, 1.0)):
        close(target(reward, value, never, middle), [1 + 0.5 * (1 + 0.5 * 20), 1 + 0.5 * 20, 1 + 0.5 * 30])
        close(target(reward, value, middle, never), [1 + 0.5 * 1, 1, 1 + 0.5 * 30])
        close(target(reward, value, middle, middle), [1 + 0.5 * 1, 1, 1 + 0.5 * 30])  # both: terminated


@pytest.mark.parametrize("target", [lambda discount: td.n_step(discount, 3), lambda discount: td.lambda_return(discount, 0.5)])
def test_without_discount_the_return_is_the_reward_and_no_value_is_read(target):
    reward, value, *ends = rows(0)
    assert (target(0.0)(reward, jnp.full_like(value, jnp.nan), *ends) == reward).all()
    close(jax.jit(lambda discount: target(discount)(reward, value, *ends))(0.0), reward)  # not known when it is built


# --- selects


@pytest.mark.parametrize("target", [td.n_step(GAMMA, 3), td.lambda_return(GAMMA, LAMBDA)])
def test_where_an_episode_terminates_no_value_matters(target):
    reward, value, _, truncated = rows(0)
    ends = jnp.arange(T) % 2 == 0
    close(target(reward, jnp.where(ends, jnp.inf, value), ends, truncated), target(reward, value, ends, truncated))


@pytest.mark.parametrize("target", [td.n_step(GAMMA, 3), td.lambda_return(GAMMA, LAMBDA)])
@pytest.mark.parametrize("types", [(jnp.float32, jnp.bfloat16), (jnp.bfloat16, jnp.float32), (jnp.int32, jnp.int32)])
def test_rewards_and_values_need_not_be_of_one_type(target, types):
    reward, value, *flags = rows(0)
    reward, value = reward.astype(types[0]), value.astype(types[1])
    wide = target(reward.astype(jnp.float32), value.astype(jnp.float32), *flags)
    close(target(reward, value, *flags).astype(jnp.float32), wide, 0.1)


def selected(select, views, stream):
    bonus, value = jax.vmap(select(PLAIN))(views, stream.action)
    return np.asarray(bonus), np.asarray(value)


def test_greedy_is_the_largest_bootstrap_value():
    views, stream = draw(2)
    bonus, value = selected(td.greedy, views, stream)
    assert not bonus.any()
    close(value, views.bootstrap_next.max(1))


def test_double_chooses_by_the_moving_and_values_by_the_bootstrap_weights():
    views, stream = draw(3)
    one = jax.tree.map(lambda leaf: leaf[0], stream)
    hand = views._replace(next=jnp.array([[1.0, 3.0, 2.0]]), bootstrap_next=jnp.array([[9.0, -5.0, 7.0]]))
    bonus, value = td.double(PLAIN)(jax.tree.map(lambda leaf: leaf[0], hand), one.action)
    assert (float(bonus), float(value)) == (0.0, -5.0)
    _, value = selected(td.double, views, stream)
    close(value, np.asarray(views.bootstrap_next)[np.arange(T), np.asarray(views.next).argmax(1)])


def test_expected_sarsa_equals_the_naive_formula():
    views, stream = draw(4)
    bonus, value = selected(td.expected_sarsa(0.5), views, stream)
    assert not bonus.any()
    close(value, [softmax(q / 0.5) @ q for q in np.asarray(views.bootstrap_next)])


def test_munchausen_equals_the_naive_formula():
    views, stream = draw(5)
    tau, weight, floor = 0.3, 0.9, -1.0
    bonus, value = selected(td.munchausen(tau, weight, floor), views, stream)
    chosen, soft = [], []
    for now, following, a in zip(*map(np.asarray, (views.bootstrap_now, views.bootstrap_next, stream.action)), strict=True):
        chosen.append(weight * np.clip(tau * np.log(softmax(now / tau)[a]), floor, 0.0))
        pi = softmax(following / tau)
        soft.append(pi @ (following - tau * np.log(pi)))
    close(bonus, chosen)
    close(value, soft)
    assert floor * weight == pytest.approx(bonus.min())  # the floor was reached …
    assert bonus.max() > floor * weight  # … and not everywhere


def test_munchausen_without_weight_at_a_tiny_temperature_is_greedy():
    views, stream = draw(6)
    bonus, value = selected(td.munchausen(1e-6, 0.0), views, stream)
    close(bonus, np.zeros(T))
    close(value, views.bootstrap_next.max(1))


# --- regressions


@pytest.mark.parametrize("goal", [-3.0, -0.5, 0.2, 0.9, 4.0])
def test_squared_and_huber_equal_their_definitions(goal):
    outputs, action = jnp.array([0.0, 0.4, 1.0]), jnp.int32(1)
    error = abs(0.4 - goal)
    close(td.squared(PLAIN)(outputs, action, goal), error**2 / 2)
    close(td.huber(0.8)(PLAIN)(outputs, action, goal), error**2 / 2 if error <= 0.8 else 0.8 * (error - 0.4))


@jax.jit
def hl_gauss_target(goal):
    """The target's probabilities are what the loss is linear in: minus its derivative in each log-probability."""
    regress = td.hl_gauss(0.75)(BINNED)
    gradient = jax.grad(regress)(jnp.zeros(BINNED.width), jnp.int32(1), goal).reshape(A, -1)[1]
    return 1 / BINNED.support.bins - gradient  # ∂/∂logits of the cross-entropy is softmax − target


def test_hl_gauss_targets_are_a_gaussian_over_the_bins():
    from scipy.stats import norm

    low, high, bins = BINNED.support
    width = (high - low) / bins
    for goal in (-4.0, -1.3, 0.0, 2.1):
        mass = np.diff(norm.cdf(np.linspace(low, high, bins + 1), loc=goal, scale=0.75 * width))
        target = hl_gauss_target(goal)
        close(target, mass / mass.sum())
        close(target.sum(), 1.0)
    for goal in (-1.3, 0.0, 1.3):  # away from the border the mean is the goal, up to a part of a bin
        assert abs(float(hl_gauss_target(goal) @ BINNED.support.centers) - goal) < 0.1 * width
    close(hl_gauss_target(9.0), hl_gauss_target(4.0))  # beyond the support: its border


def test_hl_gauss_gradient_drives_the_value_to_the_target():
    regress, goal, action = td.hl_gauss()(BINNED), -1.3, jnp.int32(2)
    step = jax.jit(lambda outputs: outputs - jax.grad(regress)(outputs, action, goal))
    outputs = start = draw(7, BINNED)[0].now[0]
    for _ in range(200):
        outputs = step(outputs)
    assert abs(float(BINNED.value(outputs, action)) - goal) < 0.1
    close(BINNED.values(outputs)[:2], BINNED.values(start)[:2])  # the other actions stay


# --- refusals


@pytest.mark.parametrize(
    ("head", "select", "regression"),
    [
        (PLAIN, td.greedy, td.hl_gauss()),
        (PLAIN._replace(policy=None, values=None), td.expected_sarsa(0.5), td.squared),
        (PLAIN._replace(policy=None, values=None), td.munchausen(), td.squared),
    ],
)
def test_a_head_that_cannot_give_what_a_loss_needs_is_refused(head, select, regression):
    with pytest.raises(Misuse, match=r"^[^\n.]* needs an action head that gives [^\n.]*\.$"):
        td.temporal_difference(head, select=select, target=td.one_step(0.9), regression=regression)


@pytest.mark.parametrize(
    "build",
    [
        lambda: td.one_step(1.1),
        lambda: td.n_step(0.9, 0),
        lambda: td.lambda_return(0.9, -0.1),
        lambda: td.huber(0.0),
        lambda: td.hl_gauss(0.0),
        lambda: td.munchausen(0.0),
        lambda: td.expected_sarsa(float("nan")),
        lambda: td.temporal_difference(
            PLAIN, select=td.greedy, target=td.one_step(0.9), regression=td.squared, reward_scale=-1.0
        ),
    ],
)
def test_numbers_out_of_range_are_refused(build):
    with pytest.raises(Misuse, match="must be"):
        build()
