"""Q-networks: shapes, names of parameters, and the identity of the dueling head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metadqn_jax.actions import Support, discrete
from metadqn_jax.checks import Misuse
from metadqn_jax.networks import cnn, mlp, reader, scorer
from metadqn_jax.types import Spec

A, BINS, CONTEXT = 3, 5, 2
PLAIN, BINNED = discrete(A), discrete(A, Support(-1.0, 1.0, BINS))
FLAT, IMAGE = jax.ShapeDtypeStruct((4,), jnp.float32), jax.ShapeDtypeStruct((5, 6, 2), jnp.uint8)


def observation(of, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(-3, 4, of.shape)).astype(of.dtype)


def build(make, of, head=PLAIN, **options):
    network = make(Spec(of, head), **options)
    return network, jax.jit(network.init)(jax.random.key(0))


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("context", [0, CONTEXT])
@pytest.mark.parametrize("head", [PLAIN, BINNED], ids=["plain", "support"])
@pytest.mark.parametrize(
    ("make", "of", "options"),
    [
        (mlp, FLAT, {}),
        (mlp, FLAT, {"dueling": True, "layer_norm": True}),
        (mlp, IMAGE, {"hidden": (7,), "activation": jax.nn.tanh}),
        (cnn, IMAGE, {}),
        (cnn, IMAGE, {"channels": (3,), "dueling": True, "layer_norm": True}),
    ],
)
def test_outputs_have_the_width_of_the_head_and_parameters_its_names(make, of, options, head, context):
    network = make(Spec(of, head), context=context, **options)
    params = jax.eval_shape(network.init, jax.random.key(0))
    seen = jnp.zeros(context) if context else None
    outputs = jax.eval_shape(network.apply, params, of, seen)
    assert (outputs.shape, outputs.dtype) == ((head.width,), jnp.float32)
    assert all(name.startswith(("head", "torso")) for name in params)
    assert any(name.startswith("head") for name in params)
    assert any(name.startswith("torso") for name in params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_the_default_mlp_is_two_layers_of_64_relu_units():
    network, params = build(mlp, FLAT)
    assert count(params) == (4 * 64 + 64) + (64 * 64 + 64) + (64 * A + A)
    x = np.asarray(obs := observation(FLAT))
    for layer in ("Dense_0", "Dense_1"):
        x = np.maximum(x @ params["torso"][layer]["kernel"] + params["torso"][layer]["bias"], 0)
    expected = x @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(network.apply(params, obs, None), expected, rtol=1e-5, atol=1e-5)


def test_the_default_cnn_is_two_convolutions_and_a_dense_layer():
    params = jax.eval_shape(cnn(Spec(IMAGE, PLAIN)).init, jax.random.key(0))
    convolutions = (9 * 2 * 16 + 16) + (9 * 16 * 32 + 32)
    assert count(params) == convolutions + (5 * 6 * 32 * 128 + 128) + (128 * A + A)


@pytest.mark.parametrize("head", [PLAIN, BINNED], ids=["plain", "support"])
def test_dueling_advantages_are_centred(head):
    network, params = build(mlp, FLAT, head, dueling=True)
    obs = observation(FLAT)
    q = network.apply(params, obs, None).reshape(A, -1)
    no_advantage = {**params, "head_advantage": jax.tree.map(jnp.zeros_like, params["head_advantage"])}
    value = network.apply(no_advantage, obs, None).reshape(A, -1)
    np.testing.assert_array_equal(value, np.broadcast_to(value[:1], value.shape))  # one value for all actions
    np.testing.assert_allclose(q.mean(0), value[0], atol=1e-5)  # and it is the mean over the actions
    assert np.abs(q - value).max() > 1e-2


def test_layer_norm_forgets_the_scale_of_what_comes_in():
    network, params = build(mlp, FLAT, layer_norm=True)
    plain = jax.eval_shape(mlp(Spec(FLAT, PLAIN)).init, jax.random.key(0))
    assert count(params) == count(plain) + 2 * 2 * 64
    first = params["torso"]["Dense_0"]
    scaled = {**params, "torso": {**params["torso"], "Dense_0": jax.tree.map(lambda leaf: 10 * leaf, first)}}
    obs = observation(FLAT)
    np.testing.assert_allclose(network.apply(scaled, obs, None), network.apply(params, obs, None), atol=1e-4)


@pytest.mark.parametrize(("make", "of"), [(mlp, FLAT), (cnn, IMAGE)])
def test_the_context_joins_the_first_dense_layer(make, of):
    network, params = build(make, of, context=CONTEXT)
    without = jax.eval_shape(make(Spec(of, PLAIN)).init, jax.random.key(0))
    width = without["torso"]["Dense_0"]["kernel"].shape
    assert params["torso"]["Dense_0"]["kernel"].shape == (width[0] + CONTEXT, width[1])
    obs = observation(of)
    moved = jax.jit(jax.grad(lambda context: network.apply(params, obs, context).sum()))(jnp.zeros(CONTEXT))
    assert np.abs(moved).min() > 0


def test_film_scales_the_first_layer_by_the_context():
    spec = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), discrete(2))
    plain, film = mlp(spec, context=2), mlp(spec, context=2, film=True)
    params = film.init(jax.random.key(0))
    kernel = params.pop("torso_gain")["kernel"]  # without a bias: a context of zero scales nothing
    assert kernel.shape == (2, 64)
    assert np.asarray(kernel).std() > 0
    obs, context = jnp.array([0.3, -0.2, 0.5]), jnp.array([1.0, 0.0])
    expected = plain.apply(params, obs, 0 * context)
    np.testing.assert_allclose(film.apply({**params, "torso_gain": {"kernel": kernel}}, obs, 0 * context), expected)
    flips = {"kernel": jnp.stack([jnp.full(64, -2.0), jnp.zeros(64)])}  # a gain of −1
    first = jax.tree.map(jnp.negative, params["torso"]["Dense_0"])
    flipped = {**params, "torso": {**params["torso"], "Dense_0": first}}
    want = plain.apply(flipped, obs, context)
    np.testing.assert_allclose(film.apply({**params, "torso_gain": flips}, obs, context), want, rtol=1e-5)


def test_film_is_left_out_where_a_network_reads_no_vector():
    spec = Spec(jax.ShapeDtypeStruct((3,), jnp.float32), discrete(2))
    assert "torso_gain" in reader(spec, (4,), film=True).init(jax.random.key(0))
    assert "torso_gain" not in reader(spec, None, film=True).init(jax.random.key(0))
    reader(spec, (2, 4), film=True).init(jax.random.key(0))  # a scorer's context has a row for each action


@pytest.mark.parametrize("options", [{"film": True}, {"film": True, "context": 2, "hidden": ()}])
def test_film_needs_a_context_and_a_layer(options):
    with pytest.raises(Misuse, match=r"film needs a context and a hidden layer that it scales, got .*; set film=False"):
        mlp(Spec(jax.ShapeDtypeStruct((3,), jnp.float32), discrete(2)), **options)


def test_convolutions_are_those_of_xla():
    network, params = build(cnn, IMAGE, channels=(3,), hidden=())
    obs = observation(IMAGE)
    layer = params["torso_image"]["Dense_0"]
    kernel = layer["kernel"].reshape(3, 3, IMAGE.shape[-1], 3)
    image = jnp.asarray(obs, jnp.float32)[None]
    seen = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    seen = np.maximum(np.asarray(seen) + np.asarray(layer["bias"])[None, None], 0).ravel()
    expected = seen @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(network.apply(params, obs, None), expected, rtol=1e-4)


def test_numbers_behind_an_image_join_the_first_dense_layer():
    network, params = build(cnn, IMAGE, context=CONTEXT)
    behind = Spec(IMAGE, PLAIN).followed_by(CONTEXT)
    obs, context = observation(IMAGE), jnp.arange(1.0, CONTEXT + 1)
    flat = jnp.concatenate([obs.ravel().astype(jnp.float32), context])
    assert (behind.observation.shape, behind.followed_by(1).image) == (flat.shape, IMAGE.shape)
    np.testing.assert_array_equal(cnn(behind).apply(params, flat, None), network.apply(params, obs, context))


def test_readers_convolve_whatever_their_context():
    spec = Spec(IMAGE, PLAIN)
    for context in (None, (CONTEXT,), (A, CONTEXT)):
        network = reader(spec, context, channels=(2,), hidden=(4, 4))
        assert network.context == context
        params = jax.jit(network.init)(jax.random.key(0))
        assert params["torso_image"]["Dense_0"]["kernel"].shape == (9 * IMAGE.shape[-1], 2)
        seen = context and jnp.ones(context)
        shown = [network.apply(params, jnp.zeros(IMAGE.shape, IMAGE.dtype).at[at].set(9), seen) for at in ((1, 1), (3, 4))]
        assert np.abs(shown[0] - shown[1]).max() > 1e-3


def test_each_key_gives_its_own_network():
    init = jax.jit(jax.vmap(mlp(Spec(FLAT, PLAIN)).init))
    first, second = init(jax.random.split(jax.random.key(3)))["head"]["kernel"]
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(
    ("make", "of", "options"),
    [
        (cnn, FLAT, {}),
        (scorer, FLAT, {"context": (A, CONTEXT), "channels": (2,)}),
        (cnn, IMAGE, {"channels": ()}),
        (cnn, IMAGE, {"channels": (4, 0)}),
        (mlp, FLAT, {"hidden": (64, -1)}),
        (mlp, FLAT, {"hidden": (64.0,)}),
        (mlp, FLAT, {"context": -1}),
    ],
)
def test_errors_are_one_sentence(make, of, options):
    with pytest.raises(Misuse, match=r"^[^\n]*, got [^\n]*; [^\n]*\.$"):
        make(Spec(of, PLAIN), **options)
