"""Any gymnax environment, with parameters that vary from task to task, as a distribution over tasks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metadqn_jax import trees
from metadqn_jax.actions import discrete, factored, multi_discrete
from metadqn_jax.checks import check_callable, check_same, require
from metadqn_jax.heads.base import extremes, within
from metadqn_jax.loops import repeat
from metadqn_jax.tasks.base import TaskDistribution, check_distribution
from metadqn_jax.tasks.vary import derive
from metadqn_jax.types import ActionHead, Key, Spec, Step, check_head


def from_gymnax(
    env: Any,
    vary: Callable[[Key, Any], Any],
    *,
    params: Any = None,
    keep: str | tuple[str, ...] = (),
    redraw: str | tuple[str, ...] = (),
    head: ActionHead | None = None,
) -> TaskDistribution:
    """Tasks are the EnvParams that `vary(key, base_params)` returns, what gymnax derives from other fields computed anew.

    env: a gymnax id or `Environment`.   params: the base, by default the environment's own.
    keep: fields of the environment's *state* that belong to the task (a goal drawn by `reset`): they are drawn with
        the task, and written back after every reset.
    redraw: fields that are drawn at each reset and do not belong to the task.
    head: by default `discrete` for a Discrete action space, `factored` with 5 bins for a bounded Box of real numbers, and
        `multi_discrete` for a space with `nvec`.

    Raises `Misuse` when `vary` changes a structure, shape or dtype, when the environment draws a part of its task at reset
    and neither `keep` nor `redraw` names it, or when the head is for another action space.
    """
    env, params = _environment(env, params)
    keep, redraw = _fields("keep", keep), _fields("redraw", redraw)
    if head is not None:
        check_head(head)
    check_callable("vary", vary, "key, params", "make one of ranges with vary_uniform")
    base = trees.strengthen(jax.tree.map(jnp.asarray, params))
    check_same(
        f"the parameters that vary returns for {env.name}",
        trees.shapes(base),
        trees.shapes(jax.eval_shape(lambda key: vary(key, base), jax.random.key(0))),
        "return base_params.replace(...) with each field's own shape and dtype",
    )
    _check_survival(env, base, keep, redraw)

    def sample(key):
        key_vary, key_kept = jax.random.split(key)
        varied = trees.strengthen(derive(vary(key_vary, base)))
        _, state = env.reset_env(key_kept, varied)
        return (varied, {name: getattr(state, name) for name in keep}) if keep else varied

    def reset(key, task):
        varied, kept = task if keep else (task, {})
        key_reset, key_observe = jax.random.split(key)
        obs, state = env.reset_env(key_reset, varied)
        if keep:
            state = state.replace(**kept)
            obs = env.observe(key_observe, state, None, varied)
        return trees.strengthen(state), trees.strengthen(obs)

    def step(key, task, world, action):
        varied = task[0] if keep else task
        key_step, key_reset = jax.random.split(key)
        next_obs, state, reward, terminated, _ = env.step_env(key_step, world, action, varied)
        terminated, truncated = (jnp.asarray(flag, bool) for flag in (terminated, env.is_truncated(state, varied)))
        fresh_world, fresh_obs = reset(key_reset, task)
        ended = terminated | truncated
        world, obs = jax.tree.map(
            lambda fresh, old: jnp.where(ended, fresh, old).astype(fresh.dtype),
            (fresh_world, fresh_obs),
            (state, next_obs),
        )
        next_obs = jnp.asarray(next_obs, obs.dtype)
        return world, Step(obs, next_obs, jnp.asarray(reward, jnp.float32), terminated, truncated)

    def first_observation(key):
        key_task, key_reset = jax.random.split(key)
        return reset(key_reset, sample(key_task))[1]

    observation = jax.eval_shape(first_observation, jax.random.key(0))
    require(
        isinstance(observation, jax.ShapeDtypeStruct),
        f"{env.name} must observe one array, got {jax.tree.structure(observation)}; wrap it so that it concatenates its parts.",
    )
    head = _default_head(env, base, vary) if head is None else head
    _check_head(env, base, vary, head)
    distribution = TaskDistribution(sample, reset, step, Spec(observation, head))
    check_distribution(distribution)
    return distribution


def _environment(env: Any, params: Any) -> tuple[Any, Any]:
    if isinstance(env, str):
        import gymnax  # costs seconds, and only ids need it

        require(env in gymnax.registered_envs, f"unknown gymnax environment {env!r}; gymnax.registered_envs lists them.")
        env, _ = gymnax.make(env)
    require(
        hasattr(type(env), "step_env"),  # gymnax's wrappers only pass their environment's on, past themselves
        f"env must be a gymnax id or Environment, got {env!r}; call a class first, of gymnax.make's pair give the first, and "
        "wrap the task distribution instead of the environment.",
    )
    default = env.default_params
    wanted, got = type(default), type(params)
    require(
        params is None or isinstance(params, wanted),
        f"params must be {env.name}'s {wanted.__qualname__}, got a {got.__module__}.{got.__qualname__}; "
        "replace fields of its default_params.",
    )
    return env, default if params is None else params


def _fields(option: str, names: Any) -> tuple[str, ...]:
    """The names of fields that `option` holds. Raises `Misuse`."""
    several = (names,) if isinstance(names, str) else names
    require(
        isinstance(several, tuple | list) and all(isinstance(name, str) for name in several),
        f"{option} must name fields of the environment's state, got {names!r}; write ('goal',), say.",
    )
    return tuple(several)


def _default_head(env: Any, params: Any, vary: Callable[[Key, Any], Any]) -> ActionHead:
    space = env.action_space(params)
    if hasattr(space, "n"):
        return discrete(int(space.n))
    if hasattr(space, "nvec"):
        return multi_discrete([int(size) for size in space.nvec])
    require(hasattr(space, "low"), f"{env.name} has the action space {space}, for which no head is usual; pass one.")
    low, high = _bounds(space)
    require(
        _one_box(env, params, vary),
        f"the usual head needs one box of actions for all tasks, but {env.name}'s differs; pass a head for the widest.",
    )
    head = factored(low.ravel(), high.ravel(), bins=5)
    return head._replace(decode=lambda action: head.decode(action).reshape(space.shape))


def _one_box(env: Any, params: Any, vary: Callable[[Key, Any], Any]) -> bool:
    """Whether some tasks have the same bounds of their actions."""
    with jax.ensure_compile_time_eval():
        drawn = [_bounds(env.action_space(vary(key, params))) for key in jax.random.split(jax.random.key(0), 4)]
    return all(np.array_equal(bounds, _bounds(env.action_space(params))) for bounds in drawn)


def _check_head(env: Any, params: Any, vary: Callable[[Key, Any], Any], head: ActionHead) -> None:
    """Raise `Misuse` unless the head gives actions of the environment's space and, where it knows them, as many.

    Where each task has bounds of its own, a head may go as far as it likes.
    """
    space, key = env.action_space(params), jax.random.key(0)
    action = jax.eval_shape(lambda key: head.decode(head.sample(key)), key)
    wanted = jax.eval_shape(space.sample, key)
    single = isinstance(wanted, jax.ShapeDtypeStruct) and isinstance(action, jax.ShapeDtypeStruct)
    if not single:
        check_same(f"an action of {env.name}", wanted, action, f"decode actions into {space}")
        return
    kinds = [jnp.issubdtype(one.dtype, jnp.floating) for one in (action, wanted)]
    require(
        action.shape == wanted.shape and kinds[0] == kinds[1],
        f"the head must give {env.name} actions {wanted.dtype}{list(wanted.shape)}, got {action.dtype}{list(action.shape)}; "
        f"take a head for {space}.",
    )
    if hasattr(space, "n"):
        right = head.num_actions in (None, space.n)
        require(right, f"the head must have {env.name}'s {space.n} actions, got {head.num_actions}; take a head for {space}.")
    if not (hasattr(space, "low") or hasattr(space, "nvec")) or not _one_box(env, params, vary):
        return
    least, most = extremes(head)
    require(
        within((least, most), _bounds(space)),
        f"the head must give actions of {env.name}'s space, got some between {least.min()} and {most.max()}; "
        f"take a head for {space}.",
    )


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest actions of a box, or of a space with `nvec`."""
    if hasattr(space, "nvec"):
        return np.zeros_like(space.nvec), np.asarray(space.nvec) - 1
    low, high = (np.broadcast_to(np.asarray(end), space.shape) for end in (space.low, space.high))
    return low, high


def _check_survival(env: Any, base: Any, keep: tuple[str, ...], redraw: tuple[str, ...]) -> None:
    """A field of the state that never moves within an episode, yet differs between two resets, is a part of the task."""

    def episode(key):
        key_reset, key_steps = jax.random.split(key)

        def step(key, i, state):
            key_action, key_step = jax.random.split(key)
            action = env.action_space(base).sample(key_action)
            _, state, _, _, _ = env.step_env(key_step, state, action, base)
            state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, start)
            return state, state

        start = trees.strengthen(env.reset_env(key_reset, base)[1])
        _, states = repeat(key_steps, 8, step, start)
        return start, states

    with jax.ensure_compile_time_eval():
        starts, states = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 64))
    for name in (*keep, *redraw):
        require(
            hasattr(starts, name),
            f"the state of {env.name} has no field {name!r}; name fields of {type(starts).__name__}.",
        )
    pairs = zip(jax.tree.leaves_with_path(starts), jax.tree.leaves(states), strict=True)
    hidden = {
        getattr(path[0], "name", getattr(path[0], "key", "a part of the state"))
        for (path, start), later in pairs
        if bool((start[:, None] == later).all()) and bool((start[:1] != start[1:]).any())
    } - {*keep, *redraw}
    require(
        not hidden,
        f"{env.name} draws {', '.join(sorted(hidden))} at reset, so its task would not survive a reset; "
        f"name it in keep to make it a part of the task, or in redraw if it is none.",
    )
