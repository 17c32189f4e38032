"""Q-networks: flax modules behind `init(key) -> params` and `apply(params, obs, context) -> outputs`.

The parameters of the output layers live under names that start with "head", the others' with "torso".
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from metadqn_jax.checks import check_callable, check_count, check_flag, require
from metadqn_jax.heads.base import by_option
from metadqn_jax.layers import DenseLayers, Seen
from metadqn_jax.types import ActionHead, Array, Key, Params, QNetwork, Spec, image_of


class _QModule(nn.Module):
    """torso → head, or torso → value + centred advantage. The context joins what the dense layers read, and may scale it."""

    head: ActionHead
    image: Sequence[int]
    channels: Sequence[int]
    hidden: Sequence[int]
    activation: Callable
    dueling: bool
    layer_norm: bool
    film: bool

    @nn.compact
    def __call__(self, obs, context):
        x = Seen(self.image, self.channels, self.activation, name="torso_image")(obs)
        x = x if context is None else jnp.concatenate([x, context])
        gain = 1.0 + nn.Dense(self.hidden[0], use_bias=False, name="torso_gain")(context) if self.film else 1.0
        x = DenseLayers(self.hidden, self.activation, self.layer_norm, name="torso")(x, gain)
        if not self.dueling:
            return self.head.outputs(self.param, nn.Dense(self.head.width, name="head")(x))
        bins = 1 if self.head.support is None else self.head.support.bins
        advantage = nn.Dense(self.head.width, name="head_advantage")(x).reshape(-1, bins)
        value = nn.Dense(bins, name="head_value")(x)
        return self.head.outputs(self.param, (value[None] + advantage - advantage.mean(0, keepdims=True)).reshape(-1))


def mlp(
    spec: Spec,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: Callable = nn.relu,
    dueling: bool = False,
    layer_norm: bool = False,
    context: int = 0,
    film: bool = False,
) -> QNetwork:
    """A multilayer perceptron over the flattened observation; with `dueling`, Wang et al. 2016, eq. 9.

    `context` is the size of the vector that a learner appends to the observation, 0 for none. With `film` it also scales
    each unit of the first layer, by 1 + a linear map of it (Perez et al. 2018, eq. 3), so that it can multiply what is
    observed: turn it, or change its sign. Raises `Misuse`.

    >>> import jax
    >>> from metadqn_jax.actions import discrete
    >>> network = mlp(Spec(jax.ShapeDtypeStruct((4,), jnp.float32), discrete(2)))
    >>> network.apply(network.init(jax.random.key(0)), jnp.zeros(4), None).shape
    (2,)
    """
    return _network(spec, (), hidden, activation, dueling, layer_norm, context, film)


def cnn(
    spec: Spec,
    *,
    channels: Sequence[int] = (16, 32),
    hidden: Sequence[int] = (128,),
    activation: Callable = nn.relu,
    dueling: bool = False,
    layer_norm: bool = False,
    context: int = 0,
    film: bool = False,
) -> QNetwork:
    """3×3 convolutions over an observation [height, width, channels], or over the image that it begins with, then dense layers.

    Numbers behind the image (a trial's clock, a task's features) join the first dense layer. Raises `Misuse`.

    >>> import jax
    >>> from metadqn_jax.actions import discrete
    >>> network = cnn(Spec(jax.ShapeDtypeStruct((10, 10, 4), jnp.float32), discrete(3)).followed_by(2))
    >>> network.apply(network.init(jax.random.key(0)), jnp.zeros(402), None).shape
    (3,)
    """
    require(
        not isinstance(channels, Sequence) or len(channels) > 0,
        "a CNN needs at least one convolution, got channels=(); use mlp instead.",
    )
    return _network(spec, channels, hidden, activation, dueling, layer_norm, context, film)


class _Scorer(nn.Module):
    """Layers that every action shares, the second of which also sees the mean and the maximum over actions."""

    image: Sequence[int]
    channels: Sequence[int]
    embedding: int
    scoring: int
    dueling: bool
    layer_norm: bool

    @nn.compact
    def __call__(self, obs, context, rows=slice(None)):
        def layer(size, name, *parts):  # one dense layer of parts that broadcast against each other
            total = sum(nn.Dense(size, name=f"torso_{name}_{i}")(part) for i, part in enumerate(parts))
            return nn.relu(nn.LayerNorm(name=f"torso_{name}_norm")(total) if self.layer_norm else total)

        x = Seen(self.image, self.channels, nn.relu, name="torso_image")(obs)[None]
        each = layer(self.embedding, "each", context, x)  # [actions, units]
        # Gathered, for the derivative of a maximum looks for what equals it: NaN where XLA rounds its copies differently.
        top = jnp.take_along_axis(each, jnp.argmax(each, 0, keepdims=True), 0)
        pooled = jnp.concatenate([each.mean(0, keepdims=True), top], 1)
        values = nn.Dense(1, name="head")(layer(self.scoring, "score", each[rows], pooled))[:, 0]
        if not self.dueling:
            return values
        return values + nn.Dense(1, name="head_value")(layer(self.scoring, "value", pooled, x))[0]


def scorer(
    spec: Spec,
    *,
    context: tuple[int, ...],
    channels: Sequence[int] = (),
    hidden: Sequence[int] = (64, 64),
    dueling: bool = True,
    layer_norm: bool = False,
) -> QNetwork:
    """Q(s, a) for a context [actions, n] whose rows say something about each action, whatever their order.

    Two layers score every action alike; the second also sees the mean and the maximum over all of the first's outputs
    (Zaheer et al. 2017, section 3.1). `channels` are those of convolutions, as in `cnn`. Raises `Misuse` unless the head
    reads one output for each row.
    """
    require(len(hidden) == 2, f"a scorer has two layers, got hidden={tuple(hidden)}; give two sizes.")
    _check_sizes(spec, channels, hidden)
    require(
        len(context) == 2 and spec.head.width == context[0] and spec.head.values is not None and by_option(spec.head),
        f"a scorer needs a head with one output and a context of one row for each action, got {spec.head.width} outputs "
        f"and {context}; use a discrete head and a memory that is read for each action, or mlp.",
    )
    module = _Scorer(image_of(spec) or (), tuple(channels), *hidden, dueling, layer_norm)

    def init(key: Array):
        obs = jnp.zeros(spec.observation.shape, spec.observation.dtype)
        return module.init(key, obs, jnp.zeros(context))["params"]

    def apply(params, obs, context):
        return module.apply({"params": params}, obs, context)

    def chosen(params, obs, context, action):
        value: Any = module.apply({"params": params}, obs, context, action[None])
        return jnp.zeros(context.shape[0]).at[action].set(value[0])

    return QNetwork(init, apply, tuple(context), chosen)


def reader(
    spec: Spec,
    context: tuple[int, ...] | None,
    *,
    channels: Sequence[int] = (),
    dueling: bool = False,
    film: bool = False,
    **shape: Any,
) -> QNetwork:
    """A network of a recipe's `shape` that reads such a context: `scorer` for one row for each action, else `cnn` or `mlp`.

    A `cnn` where there are `channels` of convolutions. What makes no sense is left out: `film` without a context that is a
    vector, `dueling` with a head that has no output for each option. Raises `Misuse`.
    """
    check_flag("dueling", dueling)
    check_flag("film", film)
    if context is not None and len(context) == 2:
        return scorer(spec, context=context, channels=channels, dueling=dueling, **shape)
    sizes: dict[str, Any] = {**shape, "film": film and context is not None, "context": 0 if context is None else context[0]}
    sizes["dueling"] = dueling and by_option(spec.head)
    return cnn(spec, channels=channels, **sizes) if channels else mlp(spec, **sizes)


def _check_sizes(spec: Spec, channels: Sequence[int], hidden: Sequence[int]) -> None:
    require(
        isinstance(spec, Spec), f"a network is built for a Spec, got a {type(spec).__name__}; give family.split.train.spec."
    )
    for name, sizes in (("channels", channels), ("hidden", hidden)):
        require(isinstance(sizes, Sequence), f"{name} must be a sequence of sizes, got {sizes!r}; give ({sizes},).")
        for size in sizes:
            check_count(name, size)
    require(
        not channels or image_of(spec) is not None,
        f"convolutions need observations [height, width, channels], or ones that begin with such an image, got shape "
        f"{spec.observation.shape}; use mlp, or channels=().",
    )


def _network(spec, channels, hidden, activation, dueling, layer_norm, context, film) -> QNetwork:
    _check_sizes(spec, channels, hidden)
    check_count("context", context, least=0)
    check_callable("activation", activation, "x")
    for name, flag in (("dueling", dueling), ("layer_norm", layer_norm), ("film", film)):
        check_flag(name, flag)
    require(
        not film or (context > 0 and len(hidden) > 0),
        f"film needs a context and a hidden layer that it scales, got context={context} and hidden={tuple(hidden)}; set "
        "film=False.",
    )
    require(
        not dueling or by_option(spec.head),
        "a dueling network needs a head with an output for each option of an action, as `discrete` and `factored`, got one "
        "without; set dueling=False.",
    )
    module = _QModule(spec.head, image_of(spec) or (), tuple(channels), tuple(hidden), activation, dueling, layer_norm, film)

    def init(key: Array):
        obs = jnp.zeros(spec.observation.shape, spec.observation.dtype)
        return module.init(key, obs, jnp.zeros(context) if context else None)["params"]

    def apply(params, obs, context):
        return module.apply({"params": params}, obs, context)

    return QNetwork(init, apply, (context,) if context else None)


class Perceptron(NamedTuple):
    """`init(key) -> params` and `apply(params, x [inputs]) -> [outputs]`: an encoder or a decoder."""

    init: Callable[[Key], Params]
    apply: Callable[[Params, Array], Array]


def perceptron(inputs: int, outputs: int, *, hidden: Sequence[int] = (64, 64), activation: Callable = nn.relu) -> Perceptron:
    """Dense layers from a vector [inputs] to a vector [outputs]; linear with hidden=(). Raises `Misuse` on sizes < 1."""
    for name, size in (("inputs", inputs), ("outputs", outputs), *(("hidden", size) for size in hidden)):
        check_count(name, size)
    module = nn.Sequential([DenseLayers(tuple(hidden), activation, False), nn.Dense(outputs)])

    def init(key: Array):
        return module.init(key, jnp.zeros(inputs))["params"]

    def apply(params, x) -> Any:
        return module.apply({"params": params}, x)

    return Perceptron(init, apply)
