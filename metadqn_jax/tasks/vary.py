"""Parameters of any gymnax environment that vary from task to task, by their names."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax.checks import check_name, require
from metadqn_jax.types import Array, Key

Interval = tuple[float, float]
Ranges = Mapping[str | tuple[str, ...], Interval | tuple[Interval, ...]]

DEAD: dict[str, dict[str, str]] = {  # fields that no observation, reward or flag of gymnax depends on, by environment
    "classic_control.acrobot": {"link_length_2": "only the first link's length stands in the equations of motion"},
    "minatar.asterix": {"shot_cool_down": "nobody shoots in this game"},
    "minatar.seaquest": {
        "ramp_interval": "the game gets harder with each surfacing, not with time",
        "enemy_move_interval": "enemies move at init_move_interval",
    },
    "bsuite.bandit": {"optimal_return": "it only feeds a regret that is never shown"},
}
DERIVED: dict[str, dict[str, tuple[tuple[str, ...], Callable[..., Any]]]] = {  # field: (of which others, how)
    "classic_control.cartpole": {
        "total_mass": (("masscart", "masspole"), lambda cart, pole: cart + pole),
        "polemass_length": (("masspole", "length"), lambda pole, length: pole * length),
    },
}


def vary_uniform(ranges: Ranges) -> Callable[[Key, Any], Any]:
    """`vary` for `from_gymnax`: each named parameter is drawn uniformly from its range, in its default's own dtype.

    ranges: {field: (low, high)}, or {field: ((low, high), …)} for a union of intervals, drawn by their lengths, or of points
    (low = high), all alike; a key may be several fields, which then have one number. Intervals of floats are half-open, so
    that ranges which only touch share no task; those of whole numbers and flags hold both ends. Each element of an array is
    drawn on its own. Fields that gymnax derives from others (CartPole's total mass) are computed anew.

    Raises `Misuse`, here on ranges that are none, and in `from_gymnax` on fields that the environment does not have,
    that are static, derived from others or dead, and on fractions for a whole number.

    >>> import gymnax
    >>> _, default = gymnax.make("CartPole-v1")
    >>> task = vary_uniform({"masspole": (0.2, 0.2)})(jax.random.key(0), default)
    >>> round(float(task.total_mass), 4)
    1.2
    """
    spans = _spans(ranges)

    def vary(key, params):
        drawn = {}
        for i, (names, intervals) in enumerate(spans.items()):
            for name in names:
                _check_field(params, name)
            default = jnp.asarray(getattr(params, names[0]))
            _check_dtype(names[0], intervals, default.dtype)
            value = uniform(jax.random.fold_in(key, i), intervals, default.shape, default.dtype)
            drawn |= dict.fromkeys(names, value)
        return derive(params.replace(**drawn))

    return vary


def places(ranges: Ranges) -> Callable[[Any], Array]:
    """`features` of tasks that `vary_uniform` made: of each number that varies, its place between its bounds, −1 to 1.

    Raises `Misuse` on ranges that are none.

    >>> import gymnax
    >>> _, default = gymnax.make("Freeway-MinAtar")
    >>> places({"player_speed": (1, 5)})(default).tolist()
    [0.0]
    """
    ends = {names[0]: np.ravel(intervals) for names, intervals in _spans(ranges).items()}
    middle = {name: float(bounds.min() + bounds.max()) / 2 for name, bounds in ends.items()}
    half = {name: max(float(bounds.max() - bounds.min()) / 2, 1e-6) for name, bounds in ends.items()}
    return lambda task: jnp.concatenate(
        [jnp.ravel((jnp.asarray(getattr(task, name)) - middle[name]) / half[name]) for name in ends] or [jnp.zeros(0)]
    ).astype(jnp.float32)


def uniform(key: Key, intervals: tuple[Interval, ...], shape: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Array:
    """Uniform draws [shape] from a union of intervals: half-open ones of floats, closed ones of whole numbers and flags.

    >>> bool(0.9 <= uniform(jax.random.key(0), ((0.2, 0.2), (0.9, 1.1))) < 1.1)
    True
    """
    real = jnp.issubdtype(dtype, jnp.floating)
    lows, highs = np.array(intervals, np.float32 if real else np.int32).T
    sizes = highs - lows if real else highs - lows + 1
    if not sizes.any():  # points
        return jnp.asarray(lows)[jax.random.randint(key, shape, 0, len(lows))].astype(dtype)
    starts = np.cumsum(sizes) - sizes
    place = jax.random.uniform(key, shape) * sizes.sum() if real else jax.random.randint(key, shape, 0, sizes.sum())
    which = jnp.sum(place[..., None] >= jnp.broadcast_to(starts[1:], (*shape, len(starts) - 1)), -1)
    lasts = np.nextafter(highs, lows) if real else highs
    value = jnp.asarray(lows)[which] + (place - jnp.asarray(starts)[which])
    return jnp.minimum(value, jnp.asarray(lasts)[which]).astype(dtype)


def derive(params: Any) -> Any:
    """`params` with the fields that gymnax derives from others computed anew: it reads those, and would keep old ones."""
    rules = DERIVED.get(_home(params), {})
    found = {name: rule(*(getattr(params, of) for of in others)) for name, (others, rule) in rules.items()}
    return params.replace(**found) if found else params


def _home(params: Any) -> str:
    """The module of gymnax that these EnvParams are of, like `classic_control.cartpole`, also where a subclass adds to them."""
    homes = [kind.__module__.removeprefix("gymnax.environments.") for kind in type(params).__mro__]
    return next((home for home in homes if home in {**DEAD, **DERIVED}), homes[0])


def _spans(ranges: Any) -> dict[tuple[str, ...], tuple[Interval, ...]]:
    """{names of fields with one number: intervals that increase} of `ranges`. Raises `Misuse` on what is none."""
    require(
        isinstance(ranges, Mapping)
        and all(_names(names) and all(isinstance(name, str) for name in _names(names)) for names in ranges),
        f"ranges must be a dict from a field's name, or from several, to (low, high), got {ranges!r}; "
        "write {'length': (0.4, 0.6)}.",
    )
    spans = {_names(names): _intervals(names, given) for names, given in ranges.items()}
    every = [name for names in spans for name in names]
    require(len(every) == len(set(every)), f"each parameter must have one range, got {every}; remove what comes twice.")
    return spans


def _names(names: Any) -> tuple[Any, ...]:
    return names if isinstance(names, tuple) else (names,)


def _intervals(names: Any, given: Any) -> tuple[Interval, ...]:
    given = given.tolist() if isinstance(given, np.ndarray | jax.Array) else given
    several = isinstance(given, tuple | list) and all(isinstance(one, tuple | list) for one in given)
    intervals = tuple(given) if several else (given,)
    require(
        len(intervals) > 0
        and all(_is_interval(one) for one in intervals)
        and all(one[1] < following[0] for one, following in itertools.pairwise(intervals)),
        f"the range of {names} must be (low, high), or several of these that increase and do not touch, got {given}; "
        "give numbers, the lower first.",
    )
    return intervals


def _is_interval(one: Any) -> bool:
    pair = isinstance(one, tuple | list) and len(one) == 2 and all(isinstance(bound, int | float | np.number) for bound in one)
    return pair and math.isfinite(one[0]) and math.isfinite(one[1]) and one[0] <= one[1]


def _check_field(params: Any, name: str) -> None:
    """Raise `Misuse` unless the environment has the field, and it changes something that a learner can see."""
    fields, home = {field.name: field for field in dataclasses.fields(params)}, _home(params)
    field = check_name("parameter", name, fields)
    require(
        field.metadata.get("pytree_node", True),
        f"{name} must be a leaf to vary from task to task, got a static field of {home}; make one environment for each value.",
    )
    value = getattr(params, name)
    number = isinstance(value, bool | int | float | tuple | list) or getattr(value, "dtype", np.dtype("O")).kind in "biuf"
    require(number, f"{name} must be a number or an array to vary, got {value!r}; write a vary of your own for it.")
    reason = DEAD.get(home, {}).get(name)
    require(reason is None, f"{name} must change something to vary, but {home} never reads it ({reason}); vary another one.")
    others, _ = DERIVED.get(home, {}).get(name, ((), None))
    require(
        not others,
        f"{name} must not be drawn on its own, since {home} derives it from {' and '.join(others)}; vary these.",
    )


def _check_dtype(name: str, intervals: tuple[Interval, ...], dtype: Any) -> None:
    bounds = [bound for interval in intervals for bound in interval]
    real = jnp.issubdtype(dtype, jnp.floating)
    points = [low == high for low, high in intervals]
    require(
        not real or all(points) or not any(points),
        f"the range of {name} must be of intervals or of points, got both in {intervals}; widen the points.",
    )
    whole = real or all(bound == round(bound) for bound in bounds)
    require(whole, f"the range of {name} must have whole bounds, since it is {dtype}, got {intervals}; round them.")
    least, most = _range_of(dtype)
    require(
        least <= min(bounds) and max(bounds) <= most,
        f"the range of {name} must lie within {least:g} and {most:g}, since it is {dtype}, got {intervals}; narrow it.",
    )


def _range_of(dtype: Any) -> tuple[float, float]:
    """What may be drawn of a dtype: so little of the largest that an interval's length is a number too."""
    if jnp.issubdtype(dtype, jnp.floating):
        return -float(jnp.finfo(jnp.float32).max) / 4, float(jnp.finfo(jnp.float32).max) / 4
    return (
        (0, 1) if dtype == jnp.bool_ else (max(int(jnp.iinfo(dtype).min), -(2**30)), min(int(jnp.iinfo(dtype).max), 2**30 - 2))
    )
