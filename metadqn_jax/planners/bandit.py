"""Exact references for Bernoulli bandits: the Bayes optimum of short ones, and the Gittins index."""

import functools
import math

import numpy as np

from metadqn_jax.checks import check_count, check_real, require

CHARGES = 512  # per pull, at which the value of an arm is computed; between them it is taken for linear


def bayes_optimal(arms: int, pulls: int) -> float:
    """The best expected return of `pulls` pulls of `arms` arms whose means are independent and ~ U[0, 1].

    Backward induction over what is known: the (successes, failures) of the arms pulled so far, in any order, for arms
    that have seen the same are alike. That is at most 4,435 states at 10 pulls, and nearly twice as many for each one more.
    Raises `Misuse` on sizes < 1.

    >>> round(bayes_optimal(arms=5, pulls=10), 3)
    6.66
    """
    check_count("arms", arms)
    check_count("pulls", pulls)
    if arms == 1:  # there is nothing to find out, however many pulls, which would be as deep a recursion
        return pulls / 2

    @functools.cache
    def value(known):
        if sum(map(sum, known)) == pulls:
            return 0.0
        fresh = {(0, 0)} if len(known) < arms else set()
        return max(pulled(known, arm) for arm in fresh.union(known))

    def pulled(known, arm):
        others = list(known)
        if arm in others:
            others.remove(arm)
        successes, failures = arm
        paid = 1.0 + value(tuple(sorted([*others, (successes + 1, failures)])))
        unpaid = value(tuple(sorted([*others, (successes, failures + 1)])))
        return unpaid + (paid - unpaid) * (successes + 1) / (successes + failures + 2)

    return value(())


def gittins_index(pulls: int, discount: float | None = None, prior: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """The Gittins index [successes, failures], float64 [pulls + 1, pulls + 1], of a Bernoulli arm; 0 beyond `pulls` in all.

    The index is the charge per pull at which an arm with a Beta prior is just worth pulling, if one may stop at any time
    and never ends (Gittins 1979; Gittins, Glazebrook and Weber 2011, section 8.4, whose tables it gives). It is found by
    calibration: backward induction for many charges at once, from arms so well known that their mean is taken as known.
    What lies between two charges is taken for linear: the index is right to 1e-4 for a uniform prior, and may be 1e-3 too
    high for priors whose means are near 0 or 1.

    discount: by default 1 − 2 / pulls (0.5 at least), which plays bandits of so many undiscounted pulls well: for these
        no index is optimal.   prior: the parameters of the Beta distribution.   Raises `Misuse`.

    >>> gittins_index(2, discount=0.9).round(4)[0].tolist()
    [0.7029, 0.5001, 0.3796]
    """
    check_count("pulls", pulls)
    discount = usual_discount(pulls) if discount is None else check_real("discount", discount, most=0.9999)
    require(
        np.shape(prior) == (2,), f"prior must be the two parameters of a Beta distribution, got {prior!r}; write (1.0, 1.0)."
    )
    first, second = (check_real("prior", one, least=1e-3) for one in prior)
    known = pulls + math.ceil(2 / (1 - discount))
    charges, table = np.linspace(0, 1, CHARGES), np.zeros((pulls + 1, pulls + 1))

    def mean(seen):
        return (np.arange(seen + 1) + first) / (seen + first + second)

    worth = np.maximum(0, mean(known) - charges[:, None]) / (1 - discount)  # [charges, successes]
    for seen in reversed(range(known)):
        p = mean(seen)
        worth = p - charges[:, None] + discount * (p * worth[:, 1:] + (1 - p) * worth[:, :-1])
        if seen <= pulls:
            successes = np.arange(seen + 1)
            table[successes, seen - successes] = _zeros(charges, worth)
        worth = np.maximum(0, worth)
    return table


def usual_discount(pulls: int) -> float:
    """1 − 2 / pulls: its horizon 1 / (1 − γ) is the number of pulls that are still to come on average."""
    return max(0.5, 1 - 2 / pulls)


def _zeros(charges, worth):
    """Where each column of `worth` [charges, n], which falls from positive to negative, is 0."""
    below, columns = np.argmax(worth <= 0, axis=0), np.arange(worth.shape[1])
    above, last, first = below - 1, worth[below - 1, columns], worth[below, columns]
    return charges[above] + (charges[below] - charges[above]) * last / (last - first)
