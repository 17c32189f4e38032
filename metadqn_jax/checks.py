"""Checks that fail while something is built, each in one sentence: what was expected, what came, what to change."""

import difflib
import importlib
import inspect
import math
import numbers
from typing import Any

import jax
import jax.core
import numpy as np

HUGE = 1e9  # numbers within it have squares, and what is made of two of them, within float32


class Misuse(ValueError):
    """A mistake of the caller's; its message is one sentence that says how to mend it."""


def require(condition: bool, sentence: str) -> None:
    """Raise `Misuse(sentence)` unless `condition` holds."""
    if not condition:
        raise Misuse(sentence)


def is_traced(value: Any) -> bool:
    """True inside `jit`, `vmap` or `grad`, where a value is not known yet and cannot be checked."""
    return isinstance(value, jax.core.Tracer)


def check_count(name: str, value: Any, least: int = 1, most: int = 2**31 - 1) -> int:
    """A static whole number within [least, most], which an int32 holds; raises `Misuse` otherwise."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    bounds = f"of at least {least}" if not whole or value < least else f"of at most {most}"
    require(whole and least <= value <= most, f"{name} must be a whole number {bounds}, got {value!r}; change {name}.")
    return int(value)


def check_real(name: str, value: Any, least: float = 0.0, most: float = math.inf) -> Any:
    """A finite number within [least, most]; traced values, as in a sweep, pass unchecked. Raises `Misuse`."""
    if is_traced(value):
        return value
    try:
        inside = not isinstance(value, bool | np.bool_) and math.isfinite(value) and least <= value <= most
    except TypeError:
        inside = False
    ends = {(True, True): "", (False, True): f" at least {least:g}", (True, False): f" at most {most:g}"}
    bounds = ends.get((least == -math.inf, most == math.inf), f" between {least:g} and {most:g}")
    got = repr(value) if isinstance(value, numbers.Number | str | None) else f"a {type(value).__name__}"
    require(inside, f"{name} must be a finite number{bounds}, got {got}; change {name}.")
    return value


def check_numbers(name: str, value: Any) -> None:
    """An array of finite numbers, or what makes one; traced values pass unchecked. Raises `Misuse`."""
    if is_traced(value):
        return
    try:
        fits = bool(np.isfinite(np.asarray(value, float)).all())
    except (TypeError, ValueError):
        fits = False
    require(fits, f"{name} must be finite numbers, got {value!r}; change {name}.")


def check_flag(name: str, value: Any) -> bool:
    """True or False; raises `Misuse` otherwise, as on a word, which would count as True."""
    require(isinstance(value, bool | np.bool_), f"{name} must be True or False, got {value!r}; change {name}.")
    return bool(value)


def check_callable(name: str, value: Any, takes: str, cure: str = "give a function") -> None:
    """A function of the arguments that `takes` names, a, b, …; raises `Misuse` otherwise, as on one that only makes such:
    that could be called without any.

    cure: what to do where no function came.
    """
    count = len(takes.split(","))
    try:
        signature = inspect.signature(value)
        signature.bind(*range(count))
        fits = any(one.default is one.empty and one.kind is not one.VAR_KEYWORD for one in signature.parameters.values())
    except TypeError:
        fits = False
    except ValueError:  # a builtin that does not say what it takes
        fits = True
    got = _shown(value)
    if callable(value):
        cure = f"let it take ({takes}), or call it first if it makes such a function"
    require(fits, f"{name} must be a function of ({takes}), got {got}; {cure}.")


def check_type(name: str, value: Any, kind: type, cure: str) -> None:
    """A value of this kind; raises `Misuse` otherwise, as on a function that only makes such, for which `cure` is not meant."""
    got, article = _shown(value), "an" if kind.__name__[0] in "AEIO" else "a"
    cure = f"call it first, as in {got}(...)" if callable(value) else cure
    require(isinstance(value, kind), f"{name} must be {article} {kind.__name__}, got {got}; {cure}.")


def _shown(value: Any) -> str:
    """A value as an error quotes it: its name, else itself where that is short."""
    text = getattr(value, "__name__", repr(value))
    return text if len(text) <= 40 else f"a {type(value).__name__}"


def check_name(kind: str, name: str, table: Any) -> Any:
    """The entry of `table` called `name`; raises `Misuse` listing the names that exist."""
    near = difflib.get_close_matches(str(name), table, 1)
    cure = f"did you mean {near[0]!r}? There are: " if near else "choose one of: "
    require(isinstance(name, str) and name in table, f"unknown {kind} {name!r}; {cure}{', '.join(sorted(table))}.")
    return table[name]


def check_installed(module: str, extra: str) -> Any:
    """The module of an optional package, imported now; raises `Misuse` naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        raise Misuse(
            f'{package} must be installed, got no module {error.name}; pip install ".[{extra}]" in the repository.'
        ) from error


def describe(tree: Any) -> str:
    """A pytree's leaves as `path: dtype[shape]`, to be quoted in an error.

    >>> describe({"obs": jax.ShapeDtypeStruct((4,), "float32")})
    "['obs']: float32[4]"
    """

    def leaf(path, value):
        shape = ",".join(map(str, value.shape))
        return f"{jax.tree_util.keystr(path)}: {value.dtype}[{shape}]"

    return "; ".join(leaf(path, value) for path, value in jax.tree_util.tree_leaves_with_path(tree))


def check_same(what: str, expected: Any, got: Any, cure: str) -> None:
    """Two abstract pytrees (from `jax.eval_shape`) have one structure, shapes and dtypes; raises `Misuse`."""
    same_tree = jax.tree.structure(expected) == jax.tree.structure(got)
    require(
        same_tree,
        f"{what} must keep its structure {jax.tree.structure(expected)}, got {jax.tree.structure(got)}; {cure}.",
    )
    pairs = zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(got), strict=True)
    for (path, want), have in pairs:
        require(
            want.shape == have.shape and want.dtype == have.dtype,
            f"{what}{jax.tree_util.keystr(path)} must stay {want.dtype}{list(want.shape)}, "
            f"got {have.dtype}{list(have.shape)}; {cure}.",
        )
