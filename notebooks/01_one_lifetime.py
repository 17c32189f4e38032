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
# # One lifetime
#
# You know Gymnasium and DQN. This notebook adds the one idea that meta-reinforcement learning puts on top of them: there is not
# one environment but a *distribution over tasks*, and what we train is not a policy but **a start from which a few gradient
# steps give a policy**.
#
# We go through it in the order in which things happen: a task, an episode, a lifetime, one gradient step, the gradient through
# that gradient step, and then pictures of a learner that was meta-trained in this notebook.

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from metadqn_jax import explore, networks, td, trees
from metadqn_jax.environments.navigation import DIRECTIONS
from metadqn_jax.evaluation import optimal_returns, random_returns
from metadqn_jax.learners.base import first_slow, td_loss
from metadqn_jax.learners.descent import fomaml, maml
from metadqn_jax.living import epsilon_greedy, live, rollout, start
from metadqn_jax.tasks.base import sample_tasks
from metadqn_jax.tasks.navigation import navigation
from metadqn_jax.training import make_trainer, steps_together
from metadqn_jax.types import Span

clock = time.time()
plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
BLUE, ORANGE, GREEN, RED, GREY = "#2b6cb0", "#dd6b20", "#2f855a", "#c53030", "#718096"

# %% [markdown]
# ## A task
#
# The family `navigation`: a point on a plane starts near the origin. Each of 20 steps it moves by 0.15 in one of eight directions, or
# stays; the reward is minus its distance to a goal. The observation is the position. **The goal is not observed**: it is the
# task, and the only way to learn about it is to act and look at rewards.
#
# A task is a pytree. Here it is the `EnvParams` of a gymnax environment, and `goal` is the leaf that varies.

# %%
family = navigation()
train, test = family.split
held_out = jax.jit(lambda key: sample_tasks(key, test, 64))(jax.random.key(0))  # a pytree with a leading [64]
task = jax.tree.map(lambda leaf: leaf[0], held_out)
print(task)

# %% [markdown]
# A `TaskDistribution` is a tuple of functions. `sample` draws a task; `reset` and `step` are those of an environment, with the task as an
# argument; `spec` holds the observation's shape and the action head. As a task is data, a batch of tasks is one more axis for `jax.vmap`.
#
# `family.split` gives each task to one side by a hash of its numbers, so that train and test share no task, whatever the keys. The 64
# tasks above are from the test side and serve to the end of this notebook; training never sees them.

# %%
print("a TaskDistribution has", train._fields)


def plane(axis, title="", half=1.3):
    axis.set(xlim=(-half, half), ylim=(-half, half), aspect="equal", title=title, xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axis.spines[["top", "right"]].set_visible(True)


figure, axis = plt.subplots(figsize=(3.4, 3.4), layout="constrained")
axis.scatter(*held_out.goal.T, s=14, marker="*", color=RED)
axis.plot(0, 0, "+", color="black", ms=10)
axis.annotate("start", (0, 0), (5, -11), textcoords="offset points", fontsize=9)
plane(axis, "the goals of 64 tasks")
plt.show()

# %% [markdown]
# ## An episode
#
# `rollout` runs one stream. Below: three episodes in the task, one of a random policy, and the distance to the goal (minus the
# reward) along each. Note the last step: `truncated` is set, `terminated` is not. The horizon cuts the episode, but the state
# has not stopped having a future, so a TD target bootstraps through it. The two flags stay apart everywhere in the library.


# %%
def act_randomly(key, t, noise, obs):
    return noise, train.spec.head.sample(key)


def random_episode(key):
    key_start, key_steps = jax.random.split(key)
    stream = start(key_start, test, task)
    return rollout(key_steps, act_randomly, test, task, stream, family.horizon)[1]


episodes = jax.jit(jax.vmap(random_episode))(jax.random.split(jax.random.key(2), 3))
print("terminated at the end:", episodes.terminated[:, -1], "  truncated at the end:", episodes.truncated[:, -1])

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4), layout="constrained")
for i, colour in enumerate((BLUE, ORANGE, GREEN)):
    path = np.vstack([episodes.obs[i, :1], episodes.next_obs[i]])  # next_obs: the true successor, never one after a reset
    left.plot(*path.T, ".-", color=colour, lw=1)
    right.plot(np.arange(1, family.horizon + 1), -episodes.reward[i], color=colour)
left.plot(*task.goal, "*", color=RED, ms=14)
left.annotate("goal", task.goal, (8, 4), textcoords="offset points", color=RED)
plane(left, "three random episodes")
right.set(xlabel="step", ylabel="distance to the goal", ylim=(0, None), xticks=(1, 5, 10, 15, 20))
plt.show()

# %% [markdown]
# ## A lifetime
#
# A **lifetime** is all experience of a learner in one task: $K$ segments of $T$ steps in $E$ parallel streams, and `adapt` is called
# after each segment. With two segments, the first is the **support** (explore, then adapt on it) and the second
# the **query** (act with what was adapted). `live` is the one function that collects it, in training and in evaluation.
#
# To have a learner, we need a network, a TD loss and a rate. They are put together here and explained next.

# %%
recipe = family.recipe
head = train.spec.head
network = networks.mlp(train.spec, hidden=(32, 32))


def loss_with(trace):
    return td.temporal_difference(
        head,
        select=td.greedy,  # the successor is worth max_a Q
        target=td.lambda_return(recipe.discount, trace),
        regression=td.huber(1.0),
    )


inner, outer = loss_with(recipe.inner_trace), loss_with(recipe.outer_trace)
alpha = 0.5


def make_maml(steps):
    return maml(network, inner=inner, outer=outer, rate=alpha, steps=steps)


span = Span(segments=2, steps=20, streams=8)
exploration = explore.by_segment(1.0, 0.5)  # ε of the support and of the query

one_step = make_maml(1)
slow = jax.jit(lambda key: first_slow(one_step, key))(jax.random.key(3))
life = jax.jit(lambda key: live(key, one_step, slow, test, task, span, exploration))(jax.random.key(4))
print(f"{span} = {span.transitions} transitions; the axes are [K, T, E, …]")
for name, leaf in life.lifetime.experience._asdict().items():
    print(f"{name:10s} {leaf.dtype!s:8s} {leaf.shape}")

# %% [markdown]
# ## Adaptation: slow and fast
#
# Two things change, at two speeds.
#
# - **Slow, $\theta$**: the network's weights at the start of every task. They change once in an *outer* step, over many tasks.
# - **Fast, $\phi$**: the weights within one task. $\phi_0 = \theta$, and each `adapt` takes gradient steps on the TD loss of the support,
#
# $$\phi_{k+1} = \phi_k - \alpha\, g_k, \qquad
# g_k = \partial_1 L(\phi_k, \phi_k), \qquad
# L(p, w) = \operatorname*{mean}_{(s,a,r,s')} \text{huber}\Big( Q_p(s,a) - \big[ r + \gamma \max_{a'} Q_w(s',a') \big] \Big) .$$
#
# $\partial_1$ says: differentiate the prediction $Q_p$, not the bootstrap $Q_w$. That is the usual semi-gradient of Q-learning. ($g_k$ is
# also clipped to norm 1.)
#
# Here is one step written by hand, against `adapt` of the library. `begin` gives $\phi_0$.

# %%
support = trees.first(life.lifetime.experience)  # [T, E]
fast = one_step.begin(jax.random.key(5), slow)
theta = fast.weights


@jax.jit
def inner_loss(p, w):
    return td_loss(inner, network, (p, None), (w, None), support)


g = jax.jit(jax.grad(inner_loss))(theta, theta)  # in the first argument only
phi = trees.subtract(theta, trees.scale(alpha, trees.clip(g, 1.0)))
adapted, info = jax.jit(one_step.adapt)(jax.random.key(6), slow, fast, support)

difference = jnp.sqrt(trees.squared_norm(trees.subtract(phi, adapted.weights)))
print(f"the step moved the weights by {info['moved']:.4f}; by hand and by `adapt` differ by {difference:.1e}")
print(f"TD loss on the support: {inner_loss(theta, theta):.4f} → {inner_loss(phi, phi):.4f}")

# %% [markdown]
# ## Where the second-order gradient comes from
#
# Meta-training asks for a $\theta$ that is good *after* the steps. With $K$ of them,
#
# $$\min_\theta\ \mathbb E_\tau\big[ L_\text{query}(\phi_K(\theta)) \big], \qquad
# \frac{d L_\text{query}}{d\theta} = \Big[\prod_{k<K} \frac{d\phi_{k+1}}{d\phi_k}\Big]^{\!\top} \nabla L_\text{query}(\phi_K), \qquad
# \frac{d\phi_{k+1}}{d\phi_k} = I - \alpha\, \frac{d g_k}{d\phi_k} .$$
#
# $g_k$ is a gradient already, so $dg_k/d\phi_k$ holds **second** derivatives: how the TD gradient itself would change, had the
# step been taken from elsewhere. Here it has two terms, $\partial_1\partial_1 L$ (a Hessian) and $\partial_2 \partial_1 L$. The second is
# particular to TD: $\phi_k$ also sets the bootstrap. The inner step does not differentiate the bootstrap, but the
# outer derivative does. (To stop it there too, pass `bootstrap=from_stopped` to `maml`, and see what is lost.)
#
# First-order MAML replaces $d\phi_{k+1}/d\phi_k$ by $I$. Same loss, other gradient:

# %%
second = make_maml(recipe.inner_steps)
first = fomaml(network, inner=inner, outer=outer, rate=alpha, steps=recipe.inner_steps)


def compare(slow, lifetime):
    """The query losses of second- and first-order MAML, the norms of their gradients, and the cosine between the two."""

    def value_and_gradient(learner):
        def query_loss(params):
            return learner.loss(jax.random.key(7), slow._replace(params=params), lifetime)[0]

        value, gradient = jax.value_and_grad(query_loss)(slow.params)
        return value, jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(gradient)])

    (loss_2, full), (loss_1, cut) = value_and_gradient(second), value_and_gradient(first)
    norms = jnp.linalg.norm(full), jnp.linalg.norm(cut)
    return (loss_2, loss_1), norms, full @ cut / (norms[0] * norms[1])


compare = jax.jit(compare)
losses, norms, cosine = compare(slow, life.lifetime)
print(f"query loss      second order {losses[0]:.5f}   first order {losses[1]:.5f}")
print(f"gradient norm   second order {norms[0]:.5f}   first order {norms[1]:.5f}")
print(f"cosine of the angle between the two gradients, at random weights: {cosine:.3f}")

# %% [markdown]
# Random weights have little curvature along the step. We look again after training.

# %% [markdown]
# ## Meta-training
#
# One outer step: sample 16 tasks → `live` in each → average the gradient of the query loss → Adam on $\theta$ → move the target
# network a little. `make_trainer` returns a pair of pure functions, `init` and `step`; `steps_together` scans many steps into one
# function, so that all of them are compiled once.

# %%
outer_steps = 600
trainer = make_trainer(
    second,
    train,
    span,
    explore=exploration,
    optimizer=optax.chain(optax.clip_by_global_norm(10.0), optax.adam(6e-3)),
    meta_batch=16,
)
began = time.time()
first_state = jax.jit(trainer.init)(jax.random.key(8))
state, metrics = jax.jit(steps_together(trainer, outer_steps))(jax.random.key(9), first_state)
jax.block_until_ready(state)
print(
    f"{outer_steps} outer steps, {outer_steps * 16 * span.transitions:,} transitions, {time.time() - began:.0f} s with compilation"
)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3), layout="constrained")
window = np.ones(20) / 20
for axis, names, label in zip(axes, (("loss",), ("reward_first", "reward_last")), ("query loss", "reward a step"), strict=True):
    for name, colour in zip(names, (BLUE, RED), strict=False):
        axis.plot(np.convolve(metrics[name], window, "valid"), color=colour, lw=1, label=name)
    axis.set(xlabel="outer step", ylabel=f"{label} (mean of 20)")
axes[1].legend(["support (ε = 1)", "query (ε = 0.5)"])
plt.show()

# %% [markdown]
# First the promised comparison, at the trained $\theta$:

# %%
_, norms, cosine = compare(state.slow, life.lifetime)
print(f"gradient norm   second order {norms[0]:.5f}   first order {norms[1]:.5f}   cosine {cosine:.3f}")

# %% [markdown]
# The loss is a poor guide, as in any Q-learning: its target moves. The gap between support and query reward is what
# adaptation gives, still with half of the query's actions random.
#
# ## Before and after
#
# Now take the held-out tasks. A learner with one step per `adapt`, called with `repeats=10` on one support batch (160 random
# transitions), shows $\phi_0, \phi_1, \dots, \phi_{10}$. With each we walk one greedy episode, on which it does not adapt.

# %%
support_span = Span(segments=1, steps=span.steps, streams=span.streams)
counts = (0, 1, 2, 3, 5, 10)


def adapt_and_walk(key, slow, task):
    key_live, key_start, key_walk = jax.random.split(key, 3)
    life = live(key_live, one_step, slow, test, task, support_span, exploration, repeats=counts[-1])
    stream = start(key_start, test, task)

    def walk(fast):
        act = epsilon_greedy(head, lambda obs: one_step.q(slow, fast, obs), lambda t: 0.0)
        seen = rollout(key_walk, act, test, task, stream, family.horizon)[1]
        return jnp.concatenate([seen.obs[:1], seen.next_obs]), seen.reward.sum()

    fasts = jax.tree.map(lambda leaf: leaf[np.array(counts)], life.fasts)
    return life.lifetime.experience, fasts, *jax.vmap(walk)(fasts)


adapt_and_walk = jax.jit(jax.vmap(adapt_and_walk, (0, None, 0)))
keys = jax.random.split(jax.random.key(10), 64)
supports, fasts, paths, returns = adapt_and_walk(keys, state.slow, held_out)

# %%
figure, axes = plt.subplots(1, 4, figsize=(12, 3.9), layout="constrained", sharey=True)
counts_shown = (0, 1, 3, 10)
shades = (GREY, "#f6ad55", ORANGE, RED)
for i, axis in enumerate(axes):
    axis.scatter(*supports.obs[i].reshape(-1, 2).T, s=3, color="#cbd5e0")
    for k, colour in zip(counts_shown, shades, strict=True):
        axis.plot(*paths[i, counts.index(k)].T, ".-", color=colour, lw=1.5, ms=4, label=f"k = {k}")
    axis.plot(*held_out.goal[i], "*", color="black", ms=13, label="goal (hidden)")
    plane(axis, f"held-out task {i}", half=1.6)
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside lower center", ncols=5)
plt.show()
for i in range(4):
    print(f"task {i}: " + ",  ".join(f"k = {k}: {returns[i, counts.index(k)]:6.2f}" for k in counts_shown))

# %% [markdown]
# Grey dots are the support: all that the learner knows about the goal are the rewards it got there. Grey paths ($k=0$) are
# nearly the same in all tasks, as $\theta$ cannot know the goal. The return of each path is printed below the figure.
#
# What did the steps change? The value field $\max_a Q_{\phi_k}(s,a)$ over the plane and the greedy action (arrows), for the first
# of these tasks:

# %%
ticks = jnp.linspace(-1.3, 1.3, 41)
positions = jnp.stack(jnp.meshgrid(ticks, ticks), -1)


@jax.jit
def field(fast):
    outputs = jax.vmap(jax.vmap(lambda obs: one_step.q(state.slow, fast, obs)))(positions)
    return outputs.max(-1), DIRECTIONS[outputs.argmax(-1)]


shown_fasts = jax.tree.map(lambda leaf: leaf[0, np.array([counts.index(k) for k in counts_shown])], fasts)
values, arrows = jax.vmap(field)(shown_fasts)
figure, axes = plt.subplots(1, 4, figsize=(12.5, 3.3), layout="constrained", sharey=True)
thin = (slice(2, None, 4), slice(2, None, 4))
for axis, k, value, arrow in zip(axes, counts_shown, values, arrows, strict=True):
    shown = axis.pcolormesh(ticks, ticks, value, vmin=values.min(), vmax=values.max(), cmap="viridis", rasterized=True)
    axis.quiver(*np.moveaxis(positions[thin], -1, 0), *np.moveaxis(arrow[thin], -1, 0), color="white", scale=18, width=0.006)
    axis.plot(*held_out.goal[0], "*", color=RED, ms=14, mec="white")
    plane(axis, f"k = {k}")
figure.colorbar(shown, ax=axes, label=r"$\max_a\, Q_{\phi_k}(s, a)$", shrink=0.85)
plt.show()
for k, value in zip(counts_shown, values, strict=True):
    peak = positions.reshape(-1, 2)[value.argmax()]
    print(f"k = {k:2d}: the peak of the field is {jnp.linalg.norm(peak - held_out.goal[0]):.2f} away from the goal")

# %% [markdown]
# The network did not learn *where the goal is* in the outer loop. It learned weights in which a gradient step on 160 rewards tilts and
# moves a whole hill.
#
# ## The adaptation curve
#
# The summary over the 64 held-out tasks: greedy return after $k$ gradient steps, next to two lines. *Random* acts
# uniformly; the *optimum* knows the goal (dynamic programming on the plane). The blue curve takes the same gradient steps with the same data from the
# weights *before* meta-training: what the steps do by themselves.

#
# (`metadqn_jax.evaluation.adaptation_returns` is this measurement as one function, with several episodes in each task.)

# %%
returns_before = adapt_and_walk(keys, first_state.slow, held_out)[-1]
chance = jax.jit(lambda key: random_returns(key, test, held_out, horizon=family.horizon))(jax.random.key(13))
best = jax.jit(lambda key: optimal_returns(key, family.optimum, held_out))(jax.random.key(14))

figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
axis.axhline(best.mean(), color="black", lw=1, label="optimum (knows the goal)")
for values, colour, name in ((returns, RED, "meta-trained θ"), (returns_before, BLUE, "θ before meta-training")):
    mean, error = values.mean(0), values.std(0) / len(values) ** 0.5
    axis.fill_between(counts, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.15, lw=0)
    axis.plot(counts, mean, "o-", color=colour, ms=4, label=name)
axis.axhline(chance.mean(), color=GREY, ls=":", label="random")
axis.axvline(recipe.inner_steps, color=RED, lw=0.5)
axis.set(xlabel="gradient steps $k$ on one support batch", ylabel="greedy return", xticks=counts)
axis.set_title("64 held-out tasks, mean ± 2 standard errors", fontsize=11)
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

print(f"random {chance.mean():.2f}, optimum {best.mean():.2f}")
for i, k in enumerate(counts):
    way = (returns[:, i].mean() - chance.mean()) / (best.mean() - chance.mean())
    print(
        f"k = {k:2d}: meta-trained {returns[:, i].mean():6.2f} ({way:4.0%} of the way)   before {returns_before[:, i].mean():6.2f}"
    )

# %% [markdown]
# Two things to remember when reading such curves:
#
# - The return at $k = 0$ is no baseline. $\theta$ is trained to be good *after* the steps, and may be worse than random before them.
# - The learner was trained for $k = 3$ (the thin line). What it does beyond is extrapolation; whether it keeps improving is a finding, not
#   a promise.
#
# This is one training run, of seconds. A result takes several seeds and intervals over seeds and tasks.
#
# Next: `02_finite_mdp` does the same where everything can be computed exactly.

# %%
print(f"this notebook took {time.time() - clock:.0f} s")
