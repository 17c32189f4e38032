# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A finite MDP, from a known model to meta-learning
#
# A finite MDP is two tables, so it can be solved exactly. That makes it the right place to ask what learning costs.
# We solve the same kind of problem three times, and each time we take something away:
#
# | | the learner is given | what it does |
# |---|---|---|
# | **a** | the tables $P$ and $R$ | gradient descent on the exact loss $-\mathbb E[\text{return}]$ |
# | **b** | samples from one MDP | Q-learning from random weights |
# | **c** | samples from one MDP, and many *other* MDPs beforehand | a few gradient steps from a meta-learned start |
#
# Nothing below is scored by rollouts: as the tables are known to *us*, every policy is worth a number
# that we can compute. The yardstick is always value iteration.

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn

from metadqn_jax import explore, networks, td
from metadqn_jax.learners.base import first_slow
from metadqn_jax.learners.descent import maml
from metadqn_jax.learners.multitask import scratch
from metadqn_jax.living import live
from metadqn_jax.planners.tabular import value_iteration
from metadqn_jax.tasks.base import sample_tasks, transition_like
from metadqn_jax.tasks.tabular import tabular
from metadqn_jax.training import make_trainer, steps_together
from metadqn_jax.types import Span

clock = time.time()
plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
BLUE, ORANGE, GREEN, RED, GREY = "#2b6cb0", "#dd6b20", "#2f855a", "#c53030", "#718096"

# %% [markdown]
# ## The tables are the task
#
# The family `tabular` is the random MDPs of Duan et al. (2016): 10 states, 5 actions, episodes of 10 steps that start
# in state 0. In each MDP, $R(s,a) \sim \mathcal N(1, 1)$ is the *mean* reward (what is observed has noise
# $\mathcal N(0,1)$ on top), and each row $P(\cdot \mid s,a) \sim \text{Dirichlet}(1,\dots,1)$ is uniform on the simplex.
#
# A **task** is a pytree. Here it is the environment's parameters, and the tables are two of its leaves. We draw 128 tasks from
# the test side of the split; nothing is ever trained on these, but for what is said to learn in them.

# %%
family = tabular()
train, test = family.split  # two TaskDistributions that share no MDP
states, actions, horizon = 10, 5, family.horizon

held_out = jax.jit(lambda key: sample_tasks(key, test, 128))(jax.random.key(0))  # a pytree with a leading [128]
task = jax.tree.map(lambda leaf: leaf[0], held_out)  # the one we look at first
print({name: jnp.shape(leaf) for name, leaf in vars(task).items()})

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3), width_ratios=(1, 1.6), layout="constrained")
shown = left.imshow(task.reward, cmap="PuOr_r", vmin=-2, vmax=4)
left.set(title="mean reward $R(s, a)$", xlabel="action $a$", ylabel="state $s$", aspect="auto")
left.set(xticks=range(actions), yticks=range(states))
figure.colorbar(shown, ax=left)
shown = right.imshow(task.transition[:, 0], cmap="Blues", vmin=0)
right.set(title="$P(s' \\mid s, a=0)$", xlabel="next state $s'$", ylabel="state $s$", aspect="auto")
right.set(xticks=range(states), yticks=range(states))
figure.colorbar(shown, ax=right)
plt.show()

# %% [markdown]
# A **task distribution** is four things: `sample` draws a task, `reset` and `step` live in it, and `spec` states the
# shape of an observation and the action space. The agent sees the state as a one-hot vector, and never the tables.

# %%
world, obs = test.reset(jax.random.key(1), task)
world, step = test.step(jax.random.key(2), task, world, jnp.int32(3))
print("observation ", obs)
print("after a step", step.obs, " reward %.2f" % step.reward)

# %% [markdown]
# ### The optimum
#
# Value iteration over a finite horizon is backward induction,
# $$V_t(s) = \max_a \Big[ R(s,a) + \sum_{s'} P(s' \mid s,a)\, V_{t+1}(s') \Big], \qquad V_H = 0 .$$
# `value_iteration` returns all $V_t$ and the greedy policy of each step. $V_0(0)$ is the best expected return.

# %%
values, policy = value_iteration(task.transition, task.reward, horizon)
optimum = float(values[0, 0])
print(f"values {values.shape}, policy {policy.shape}; the best expected return in this MDP is {optimum:.2f}")
print("best actions in states 0…9 at the first step", policy[0], "and at the last", policy[-1])

# %% [markdown]
# The best action depends on the time that is left: near the end the reward at once is all that counts. Keep this in
# mind, since a DQN whose observation is the state alone cannot act on it.
#
# ## a. Gradient descent on the exact loss
#
# Let $\pi_\theta(a \mid s, t)$ be a network: a one-hot state and the time $t/H$, 64 ReLU units, a softmax over actions. With
# the model known, no episode needs to be sampled. Push the *distribution* over states through the horizon instead:
#
# $$d_0 = e_0, \qquad d_{t+1}(s') = \sum_{s,a} d_t(s)\,\pi_\theta(a \mid s,t)\,P(s' \mid s,a), \qquad
# L(\theta) = -\sum_{t=0}^{H-1} \sum_{s,a} d_t(s)\,\pi_\theta(a \mid s,t)\,R(s,a) .$$
#
# This is exactly $-\mathbb E[\text{return}]$, and each operation in it is differentiable.


# %%
def expected_return(policy, task):
    """The exact E[return] of `policy`, [H, S, A] probabilities, from state 0."""

    def push(distribution, policy_now):
        visits = distribution[:, None] * policy_now  # [S, A]
        return jnp.einsum("sa,sat->t", visits, task.transition), jnp.sum(visits * task.reward)

    start = jax.nn.one_hot(0, task.reward.shape[0])
    return jnp.sum(jax.lax.scan(push, start, policy)[1])


def at_all_times(policy):
    """A policy [S, A] that does not look at the clock, as [H, S, A]."""
    return jnp.broadcast_to(policy, (horizon, *policy.shape))


def deterministic(policy):
    return jax.nn.one_hot(policy, actions)


uniform_policy = at_all_times(jnp.full((states, actions), 1 / actions))
random_return = float(expected_return(uniform_policy, task))
print(f"value iteration says {optimum:.4f}, its policy is worth {expected_return(deterministic(policy), task):.4f}")
print(f"the uniformly random policy is worth {random_return:.4f}")

# %% [markdown]
# The forward pass agrees with backward induction. Now the network, and $\theta \leftarrow \theta - \alpha \nabla_\theta L$,
# with Adam choosing the step. We train a second network that is not shown the time (the input is there, but always 0),
# to see what the clock is worth.


# %%
class PolicyNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(actions)(nn.relu(nn.Dense(64)(x)))


network = PolicyNetwork()
grid = jnp.broadcast_to(jnp.eye(states), (horizon, states, states))
hours = jnp.broadcast_to(jnp.arange(horizon)[:, None, None] / horizon, (horizon, states, 1))


def policy_of(theta, clock_shown):
    return jax.nn.softmax(network.apply(theta, jnp.concatenate([grid, clock_shown * hours], -1)))


def minimise(key, task, clock_shown, steps=500):
    """E[return] before each of `steps` gradient steps, [steps]."""
    optimizer = optax.adam(1e-2)

    def loss(theta):
        return -expected_return(policy_of(theta, clock_shown), task)

    def update(carry, _):
        theta, state = carry
        value, gradient = jax.value_and_grad(loss)(theta)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(theta, change), state), -value

    theta = network.init(key, jnp.zeros(states + 1))
    return jax.lax.scan(update, (theta, optimizer.init(theta)), length=steps)[1]


def both_networks(key, task):
    return jax.vmap(minimise, (None, None, 0))(key, task, jnp.array([1.0, 0.0]))


many = jax.tree.map(lambda leaf: leaf[:16], held_out)  # `task` is the first of these
many_curves = jax.jit(jax.vmap(both_networks))(jax.random.split(jax.random.key(3), 16), many)  # [16, 2, steps]
curves = many_curves[0]

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
left.axhline(optimum, color="black", lw=1, label="value iteration")
left.axhline(random_return, color=GREY, ls=":", label="random policy")
for curve, colour, name in zip(curves, (BLUE, ORANGE), ("state and time", "state only"), strict=True):
    left.plot(curve, color=colour, label=f"network sees {name}")
    right.semilogy(optimum - curve, color=colour)
left.set(xlabel="gradient steps", ylabel="exact expected return", title="(a) the model is known")
left.legend(loc="center right")
right.set(xlabel="gradient steps", ylabel="optimum − return", title="the distance that is left")
plt.show()

# %%
for name, curve in zip(("state and time", "state only    "), curves, strict=True):
    print(f"{name}: {curve[0]:.2f} → {curve[-1]:.2f}; the optimum is {optimum:.2f}, a random policy gives {random_return:.2f}")

# %% [markdown]
# Both curves start near random. What is left below the black line has two parts: what the optimisation missed, and, for
# the network that does not see the time, what no stationary policy can reach.
#
# Policy gradients have local optima, and this was one MDP. Here are 16.

# %%
many_optima = jax.vmap(lambda task: value_iteration(task.transition, task.reward, horizon)[0][0, 0])(many)
many_random = jax.vmap(lambda task: expected_return(uniform_policy, task))(many)


def share(returns, random_returns, optima):
    """How much of the way from random (0) to optimal (1)."""
    return (returns - random_returns) / (optima - random_returns)


for i, name in enumerate(("state and time", "state only    ")):
    reached = share(many_curves[:, i, -1], many_random, many_optima)
    print(f"{name}: mean {reached.mean():.1%}, worst {reached.min():.1%} of the way from random to optimal")

# %% [markdown]
# In principle the clock can only help; compare the two rows for how much of that the optimisation turns into return. One should not
# expect much: these MDPs mix fast, as $P$ spreads every action over all states, so one step of poor foresight costs little.
# From here on, policies see the state only.
#
# ## b. Q-learning from samples
#
# Now hide the tables. A DQN sees transitions $(s, a, r, s')$ and regresses $Q_\theta(s,a)$ to
# $r + \gamma \max_{a'} Q_{\theta^-}(s', a')$. Two things stand between it and the optimum, and it pays to separate them.
#
# **The objective.** Q-learning maximises a discounted return over an endless future; our score is an undiscounted return over
# 10 steps. Even with perfect knowledge, the greedy policy of the exact discounted $Q^*_\gamma$ is not quite optimal.
# The library keeps `terminated` and `truncated` apart for this reason: the horizon *truncates*, so the
# target bootstraps through it, and the value of a state does not depend on the time.


# %%
def best_action_discounted(task, discount):
    """The greedy policy [S] of the exact Q* with this discount."""

    def back(value, _):
        return jnp.max(task.reward + discount * task.transition @ value, 1), None

    value, _ = jax.lax.scan(back, jnp.zeros(states), length=500)
    return jnp.argmax(task.reward + discount * task.transition @ value, 1)


def worth_of_discounted(task, discount):
    return expected_return(at_all_times(deterministic(best_action_discounted(task, discount))), task)


print(f"greedy policy of the exact Q*, over the same 16 MDPs (optimum {many_optima.mean():.2f})")
for discount in (0.0, 0.5, 0.8, 0.9, 0.97):
    worth = jax.vmap(worth_of_discounted, (0, None))(many, discount)
    print(f"γ = {discount:.2f}: {worth.mean():.2f}, {share(worth, many_random, many_optima).mean():.1%} of the way from random")

# %% [markdown]
# The discount matters little here as long as it is not very small. (With γ = 0 the policy takes the best immediate reward: how near *that* comes
# says how much planning the family needs at all.) So what follows in (b) and (c) is mostly about *data*: 50 pairs $(s,a)$ whose
# mean rewards differ by about as much as the noise on a single sample.

# %% [markdown]
# **The data.** The rest is what sampling costs. `scratch` is a DQN that starts from random weights in each
# task, with its own replay and target network. In this library a baseline is a learner like any other: five functions about one
# task (`init, begin, q, adapt, loss`; `remember` is the sixth, about a whole run). So the same `live` runs it.
#
# A **lifetime** is a `Span`: K segments × T steps × E parallel streams, with `adapt` called after each segment. One
# lifetime of 30 segments × 10 steps × 5 streams is 1,500 transitions, and `live` returns the learner's state
# after each adaptation (`fasts`), which we score with the exact return.

# %%
recipe = family.recipe
qnet = networks.mlp(train.spec, hidden=(32, 32))
loss = td.temporal_difference(
    train.spec.head,
    select=td.greedy,
    target=td.one_step(recipe.discount),
    regression=td.huber(),
    reward_scale=recipe.reward_scale,
)
one_transition = transition_like(train)


def exact_greedy_return(learner, slow, fast, task):
    """The exact return of the greedy policy of `learner` in this fast state."""
    outputs = jax.vmap(lambda obs: learner.q(slow, fast, obs))(jnp.eye(states))
    return expected_return(at_all_times(deterministic(jnp.argmax(outputs, 1))), task)


span = Span(segments=30, steps=10, streams=5)
epsilons = jnp.linspace(1.0, 0.2, span.segments)
dqn = scratch(qnet, one_transition, loss=loss, rate=3e-3, steps=50, capacity=span.transitions)


@jax.jit
def lifetime_of_dqn(key):
    slow = first_slow(dqn, jax.random.key(0))  # empty: nothing is meta-learned
    life = live(key, dqn, slow, test, task, span, explore=lambda outer_step, segment, t: epsilons[segment])
    return life.lifetime.experience, jax.vmap(lambda fast: exact_greedy_return(dqn, slow, fast, task))(life.fasts)


# %%
experience, dqn_returns = jax.lax.map(lifetime_of_dqn, jax.random.split(jax.random.key(6), 6))
print({name: leaf.shape for name, leaf in experience._asdict().items()})
print("axes: 6 independent runs × K segments × T steps × E streams (× the observation)")
for k in (0, 1, 5, 30):
    print(f"after {50 * k:5d} transitions: {dqn_returns[:, k].mean():.2f} ± {dqn_returns[:, k].std():.2f} (6 runs)")
ceiling = worth_of_discounted(task, recipe.discount)
print(f"exact Q* with the same γ = {recipe.discount}: {ceiling:.2f};  optimum {optimum:.2f};  random {random_return:.2f}")

# %%
figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
seen = np.arange(span.segments + 1) * span.steps * span.streams
axis.axhline(optimum, color="black", lw=1, label="value iteration")
axis.axhline(ceiling, color=GREEN, ls="--", lw=1, label=f"exact $Q^*$, γ = {recipe.discount}")
for i, curve in enumerate(dqn_returns):
    axis.plot(seen, curve, color=BLUE, lw=0.6, alpha=0.4, label="DQN from scratch, 6 runs" if i == 0 else None)
axis.plot(seen, dqn_returns.mean(0), color=BLUE, lw=2, label="their mean")
axis.axhline(random_return, color=GREY, ls=":", label="random")
axis.set(xlabel="transitions seen in this MDP", ylabel="exact return of the greedy policy", title="(b) one MDP, from samples")
axis.legend(loc="lower right")
plt.show()

# %% [markdown]
# The distance between the mean and the dashed line is the price of not knowing the tables: noisy rewards
# and few visits to each of the 50 pairs $(s, a)$.
#
# ## c. Meta-learning: many MDPs beforehand, one batch of data now
#
# Suppose that a new MDP grants only 50 transitions, taken by a random policy (5 episodes), and then we must act. That is one
# visit to each pair $(s,a)$, on average. A DQN from scratch has to find in them, too, that rewards are about 1, that the 10 states
# have little to do with each other, and how far to believe one noisy sample. All this is the same in *every* MDP of the
# family. MAML learns it, as the place $\theta$ from which gradient descent starts:
#
# $$\phi_0 = \theta, \qquad \phi_{k+1} = \phi_k - \alpha \nabla_\phi L^{\text{TD}}(\phi_k; \text{support}), \qquad
# \min_\theta\; \mathbb E_{\tau}\big[ L^{\text{TD}}(\phi_K; \text{query}) \big].$$
#
# $\theta$ is **slow**: it changes once in an outer step, over a batch of MDPs. $\phi$ is **fast**: it lives and dies within one MDP.
# The outer gradient passes through the K inner steps, and thus through a gradient of a gradient.
# Notebook 01 looks at this in more detail.

# %%
alpha, inner_steps, outer_steps, meta_batch = 0.6, 3, 400, 32
life_span = Span(segments=2, steps=10, streams=5)  # 50 transitions of support, 50 of query


def make_maml(steps):
    return maml(qnet, inner=loss, outer=loss, rate=alpha, steps=steps)


trainer = make_trainer(
    make_maml(inner_steps),
    train,
    life_span,
    explore=explore.by_segment(recipe.support_epsilon, recipe.query_epsilon),
    optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adam(6e-3)),
    meta_batch=meta_batch,
)
began = time.time()
state = jax.jit(trainer.init)(jax.random.key(7))
state, metrics = jax.jit(steps_together(trainer, outer_steps))(jax.random.key(8), state)
print(f"{outer_steps} outer steps × {meta_batch} MDPs in {time.time() - began:.0f} s, compilation included")
first, last = metrics["loss"][:50].mean(), metrics["loss"][-50:].mean()
print(f"outer loss {first:.3f} (first 50 steps) → {last:.3f} (last 50)")

# %% [markdown]
# ### Everyone gets the same 50 transitions
#
# Once more the 128 held-out MDPs. In each, `live` collects one segment of random behaviour (ε = 1), and MAML and the DQN both
# adapt on it. MAML takes one gradient step in each call of `adapt`; the DQN ten, with Adam and all 50 transitions in each. After every
# call we score the greedy policy.
#
# For scale there is also a planner that has the family's prior by heart. It plans in the *mean* of the Bayesian posterior
# (Dirichlet counts + 1; a normal prior $\mathcal N(1,1)$ on each reward) given the same 50 transitions.

# %%
support_span = Span(segments=1, steps=life_span.steps, streams=life_span.streams)
one_maml_step = make_maml(1)
ten_dqn_steps = scratch(qnet, one_transition, loss=loss, rate=3e-3, steps=10, capacity=50, minibatch=50)


def collect(key, task):
    """One support segment, a Transition [T, E]."""
    life = live(key, one_maml_step, state.slow, test, task, support_span, explore.by_segment(1.0))
    return jax.tree.map(lambda leaf: leaf[0], life.lifetime.experience)


def scores(learner, slow, calls):
    """The exact greedy return after 0 … `calls` calls of `adapt` on the support of each task, [tasks, calls + 1]."""

    def one(key, task, segment):
        def call(fast, key):
            fast, _ = learner.adapt(key, slow, fast, segment)
            return fast, exact_greedy_return(learner, slow, fast, task)

        key_begin, key_calls = jax.random.split(key)
        fast = learner.begin(key_begin, slow)
        first = exact_greedy_return(learner, slow, fast, task)
        return jnp.append(first, jax.lax.scan(call, fast, jax.random.split(key_calls, calls))[1])

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(10), 128), held_out, supports)


supports = jax.jit(jax.vmap(collect))(jax.random.split(jax.random.key(9), 128), held_out)
maml_steps, dqn_steps = np.array([0, 1, 2, 3, 5, 10]), np.array([0, 10, 30, 100, 300])
maml_returns = scores(one_maml_step, state.slow, 10)[:, maml_steps]
scratch_returns = scores(ten_dqn_steps, first_slow(ten_dqn_steps, jax.random.key(0)), 30)[:, dqn_steps // 10]


# %%
def plan_in_posterior_mean(task, segment):
    """The exact return, in the true MDP, of the plan made in the posterior mean MDP."""
    obs, action, reward, next_obs, *_ = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), segment)
    pairs = jnp.einsum("ns,na->nsa", obs, jax.nn.one_hot(action, actions))
    moves, visits = jnp.einsum("nsa,nt->sat", pairs, next_obs), pairs.sum(0)
    transition = (moves + 1) / (visits[..., None] + states)
    mean_reward = (jnp.einsum("nsa,n->sa", pairs, reward) + 1) / (visits + 1)
    plan = value_iteration(transition, mean_reward, horizon)[1]
    return expected_return(deterministic(plan), task)


def summarise(task):
    optimum = value_iteration(task.transition, task.reward, horizon)[0][0, 0]
    return optimum, expected_return(uniform_policy, task)


bayes = jax.vmap(plan_in_posterior_mean)(held_out, supports)
best, chance = jax.vmap(summarise)(held_out)


def standard_error(returns):
    return returns.std() / len(returns) ** 0.5


def line(name, returns):
    of_the_way = share(returns.mean(), chance.mean(), best.mean())
    print(
        f"{name:34s} {returns.mean():6.2f} ± {standard_error(returns):.2f}   {of_the_way:6.1%} of the way from random to optimal"
    )


print("mean of 128 held-out MDPs ± standard error")
line("random", chance)
for k, returns in zip(maml_steps, maml_returns.T, strict=True):
    line(f"MAML after {k} steps", returns)
for k, returns in zip(dqn_steps, scratch_returns.T, strict=True):
    line(f"DQN from scratch after {k} steps", returns)
line("plan in the posterior mean", bayes)
line("value iteration (knows the tables)", best)

# %%
figure, axis = plt.subplots(figsize=(9, 3.8), layout="constrained")


def band(steps, returns, colour, label):
    mean, error = returns.mean(0), returns.std(0) / len(returns) ** 0.5
    axis.fill_between(steps, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.15, lw=0)
    axis.plot(steps, mean, "o-", color=colour, ms=4, label=label)


axis.axhline(best.mean(), color="black", lw=1, label="value iteration\n(knows the tables)")
axis.axhline(bayes.mean(), color=GREEN, ls="--", label="plan in the posterior\nmean, same data")
band(maml_steps, maml_returns, RED, "MAML, same data")
band(dqn_steps, scratch_returns, BLUE, "DQN from scratch,\nsame data")
axis.axhline(chance.mean(), color=GREY, ls=":", label="random")
axis.axvline(inner_steps, color=RED, lw=0.5, alpha=0.6)
note = {"xytext": (4, 0), "textcoords": "offset points", "color": RED, "fontsize": 8}
axis.annotate(f"K = {inner_steps}, what it was trained for", (inner_steps, chance.mean() + 1), **note)
axis.set_xscale("symlog", linthresh=1)
axis.set_xticks([0, 1, 2, 3, 5, 10, 30, 100, 300], [0, 1, 2, 3, 5, 10, 30, 100, 300])
axis.set(xlim=(-0.1, 400), xlabel="gradient steps on one batch of 50 transitions", ylabel="exact return of the greedy policy")
axis.set_title(f"(c) {len(best)} held-out MDPs, mean ± 2 standard errors")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1)
plt.show()

# %%
best_count = scratch_returns.mean(0).argmax()
print(f"the DQN's best number of steps is {dqn_steps[best_count]} (chosen on these MDPs: a favour to it)")
for k in (3, 10):
    gain = maml_returns[:, maml_steps.tolist().index(k)] - scratch_returns[:, best_count]
    ahead = int((gain > 0).sum())
    print(
        f"MAML after {k:2d} steps, minus that: {gain.mean():+.2f} ± {standard_error(gain):.2f}, ahead in {ahead} of {len(gain)} MDPs"
    )

# %% [markdown]
# ### What to take from this
#
# - With the model known, a small network and a differentiable expectation are enough; value iteration shows how near it comes.
# - From samples, a gap can come from the objective ($\gamma$, a policy that does not see the clock) or from the data. Both can be
#   computed here; do that before blaming the algorithm.
# - Before any step, a meta-learned start is no good policy, and cannot be: a new MDP's numbers are independent of all those seen. What
#   $\theta$ holds is a place from which a handful of gradient steps do what takes a DQN from scratch many more. Whether
#   the end is better too, or only nearer, is what the last cell prints, with its standard error.
# - The dashed line is what the *same data* allow a planner that was told the prior. A meta-learner has to find the prior
#   by itself. With few transitions much of the distance to the black line is out of anyone's reach: the data do not hold it.
#
# Things to try: 20 episodes of support in place of 5 (then a well-tuned DQN from scratch catches up in the end: with enough data a
# prior is worth little), more outer steps, learned inner rates.

# %%
print(f"this notebook took {time.time() - clock:.0f} s")
