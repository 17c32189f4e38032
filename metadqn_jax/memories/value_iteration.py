"""A memory that is a model of the task, and plans with it."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.checks import check_count
from metadqn_jax.memories.base import Memory, blank, rows_of
from metadqn_jax.planners.tabular import action_values, expectation
from metadqn_jax.types import Spec

APART = 6.0  # logits by which the places of observations differ at the start of training
HORIZONS = 1.0, 3.5  # logits of the plans' discounts at the start of training: 0.73 to 0.97


class _Plans(nn.Module):
    """Where observations are kept, and what each plan expects of what was not seen."""

    places: int
    plans: int
    sweeps: int

    def setup(self):
        def own(key, shape, dtype):
            return APART * jnp.eye(*shape, dtype=dtype)

        self.place = nn.Dense(self.places, kernel_init=own)
        self.hoped = self.param("hoped", nn.initializers.normal(1.0), (self.plans,))
        self.weight = self.param("weight", nn.initializers.normal(1.0), (self.plans,))
        self.discount = self.param("discount", lambda key, shape: jnp.linspace(*HORIZONS, *shape), (self.plans,))
        self.spread = self.param("spread", nn.initializers.zeros, ())

    def address(self, obs):
        return jax.nn.softmax(self.place(jnp.ravel(obs).astype(jnp.float32)))

    def plan(self, moves, rewards):
        """Rewards and values [places, actions, plans] of Σ moves [places, actions, places] and Σ rewards."""
        weight, hoped = nn.softplus(self.weight)[None, None], self.hoped[None, None]
        seen, spread = moves.sum(-1)[..., None], nn.softplus(self.spread)
        reward = (rewards[..., None] + weight * hoped) / (seen + weight)
        usual = moves.sum((0, 1)) + 1 / self.places  # where moves lead that were not seen
        expect = expectation((moves + spread * usual[None, None] / usual.sum()) / (seen + spread))

        def values(reward, discount):
            return action_values(reward, lambda value: discount * expect(value), self.sweeps + 1)[0]

        value = jax.vmap(values, (2, 0), 2)(reward, nn.sigmoid(self.discount))
        return reward, value

    def __call__(self, obs):
        return self.address(obs), self.plan(jnp.zeros((self.places, 1, self.places)), jnp.zeros((self.places, 1)))


def value_iteration(spec: Spec, *, places: int = 16, plans: int = 8, sweeps: int = 8) -> Memory:
    """A model of what was seen, and plans that value iteration makes of it (Tamar et al. 2016, section 3).

    Every observation has a soft address among `places`, which is learned. Under it and the action stand the rewards that
    came and the addresses that followed. Each plan has a discount of its own, and a reward that it hopes for where nothing
    was seen, as if it had seen it some times: both are learned. The context [A, 3 · plans] holds for each action how much
    more it is worth than the others, what they are worth in the mean, and its reward.

    Differs from the paper: the model is not learned across tasks but filled within one, as in Duan et al. (2016, RL²).
    The stream form is a scan, as all that was seen is planned with anew at each step. Raises `Misuse` on sizes < 1, and on
    heads that do not know their actions one by one.
    """
    for name, size in (("places", places), ("plans", plans), ("sweeps", sweeps)):
        check_count(name, size)
    module = _Plans(places, plans, sweeps)
    actions = rows_of(spec.head, "a memory that plans")

    def call(params, method, *arguments):
        return module.apply({"params": params}, *arguments, method=method)

    def init(key):
        return module.init(key, blank(spec).obs)["params"]

    def begin(params):
        return jnp.zeros((places, actions, places)), jnp.zeros((places, actions))

    def write(params, transition):
        here, there = (call(params, _Plans.address, obs) for obs in (transition.obs, transition.next_obs))
        return here[:, None] * spec.head.embed(transition.action)[None], there, transition.reward

    def add(state, written):
        (moves, rewards), (taken, there, reward) = state, written
        return moves + taken[..., None] * there[None, None], rewards + taken * reward

    def step(params, state, transition):
        return add(state, write(params, transition))

    def read(params, state, obs):
        here = call(params, _Plans.address, obs)
        reward, value = (jnp.einsum("k,kap->ap", here, table) for table in call(params, _Plans.plan, *state))
        mean = value.mean(0)
        return jnp.concatenate([value - mean[None], jnp.broadcast_to(mean[None], value.shape), reward], 1)

    def trace(params, stream):
        return jax.vmap(lambda one: write(params, one))(stream)

    def recall(params, trace, obs, after):
        @jax.checkpoint
        def one(state, inputs):
            written, obs = inputs
            then = add(state, written)
            return then, read(params, then if after else state, obs)

        return jax.lax.scan(one, begin(params), (trace, obs))[1]

    return Memory(init, begin, step, read, trace, recall, (actions, 3 * plans))
