"""How the inner solve is differentiated, apart from what the solve is.

A derivative is `(gradient, update, steps) -> solve`, with
    gradient: (fast, given) -> g                 the inner gradient at `fast`; `given` is all that it depends on besides
    update:   (fast, given, g) -> fast           one step of the rule
    solve:    (fast, given) -> (fast, iterates)  `steps` of them, with the derivative that the name says: the last fast
                                                 state, and [steps] of them, one after each step
The last stands apart from the iterates, so that who reads only it does not keep the others.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from metadqn_jax import trees
from metadqn_jax.checks import check_count, check_real


def unrolled(gradient: Callable, update: Callable, steps: int) -> Callable:
    """Backpropagation through every inner step: MAML's second-order derivative (Finn et al. 2017, eq. 1)."""

    def solve(fast, given):
        def step(fast, _):
            fast = update(fast, given, gradient(fast, given))
            return fast, fast

        return jax.lax.scan(step, fast, length=steps)

    return solve


def first_order(gradient: Callable, update: Callable, steps: int) -> Callable:
    """Inner gradients count as constants, so that dφ_K/dθ = I for SGD (Finn et al. 2017, section 5.2)."""
    return unrolled(lambda fast, given: trees.stop(gradient(fast, given)), update, steps)


def detached(gradient: Callable, update: Callable, steps: int) -> Callable:
    """The solution counts as a constant: no derivative at all."""
    solve = unrolled(gradient, update, steps)
    return lambda fast, given: trees.stop(solve(trees.stop(fast), trees.stop(given)))


def implicit(iterations: int, tolerance: Any) -> Callable:
    """The derivative of the inner problem's solution φ*, whatever the way to it (Rajeswaran et al. 2019, algorithm 2).

    g(φ*, given) = 0 makes dφ* = −A⁻¹ ∂₂g dgiven with A = ∂₁g, solved by conjugate gradients until a residual of
    `tolerance` relative to the right-hand side, `iterations` at most; memory does not grow with `steps`. A must be
    symmetric and positive definite, and `fast` have a field `weights` shaped like g. The one iterate is the solution.
    Differs from the paper: A is all of ∂₁g, penalty included, so that θ may enter by more than the penalty. Raises `Misuse`.
    """
    check_count("iterations", iterations)
    check_real("tolerance", tolerance)
    invert = functools.partial(cg, tol=tolerance, maxiter=iterations)

    def derivative(gradient, update, steps):
        descend = detached(gradient, update, steps)

        def solve(fast, given):
            solution, _ = descend(fast, given)
            closed, hoisted = jax.closure_convert(gradient, solution, given)  # as in `gradient_of`

            def gradient_at(fast, all_given):
                return closed(fast, all_given[0], *all_given[1])

            fast = _solved(gradient_at, invert, solution, (given, hoisted))
            return fast, trees.lift(fast)

        return solve

    return derivative


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _solved(gradient, invert, fast, given):
    """`fast`, the derivative of whose weights in `given` is that of the root of `gradient`."""
    return fast


def _keep(gradient, invert, fast, given):
    return fast, (fast, given)


def _implicit(gradient, invert, kept, cotangent):
    fast, given = kept
    _, pullback = jax.vjp(lambda weights, given: gradient(fast._replace(weights=weights), given), fast.weights, given)
    curvature = jax.jit(lambda direction: pullback(direction)[0])  # A, symmetric; traced once for all of its uses
    along = invert(curvature, cotangent.weights)[0]
    return jax.tree.map(_no_cotangent, fast), pullback(trees.scale(-1.0, along))[1]


_solved.defvjp(_keep, _implicit)


def gradient_of(loss: Callable) -> Callable:
    """∂loss/∂p for a scalar `loss(p, given, data)`, whose own derivative is one forward-over-reverse pass.

    With u the cotangent of g = ∂₁loss, the cotangents of p and `given` are the derivative of (∂₁loss, ∂₂loss) along
    u in p: second derivatives commute. It keeps only p, `given` and `data` between the passes, where reverse over
    reverse keeps every activation of every step. `data` is fixed: its cotangent is zero, float0 for whole numbers.
    """

    def gradient(p, given, data):
        # A hyperparameter that a sweep traces is closed over by the loss; it must be an argument of the custom rule.
        closed, hoisted = jax.closure_convert(loss, p, given, data)
        return _gradient(lambda p, all_given, data: closed(p, all_given[0], data, *all_given[1]), p, (given, hoisted), data)

    return gradient


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradient(loss, p, given, data):
    return jax.grad(loss)(p, given, data)


def _forward(loss, p, given, data):
    return _gradient(loss, p, given, data), (p, given, data)


def _backward(loss, kept, u):
    p, given, data = kept
    _, (of_p, of_given) = jax.jvp(lambda p: jax.grad(loss, (0, 1))(p, given, data), (p,), (u,))
    return of_p, of_given, jax.tree.map(_no_cotangent, data)


_gradient.defvjp(_forward, _backward)


def _no_cotangent(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)
