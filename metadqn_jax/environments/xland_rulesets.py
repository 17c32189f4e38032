"""Rulesets for XLand-MiniGrid (Nikulin et al. 2023), made here, backwards from the goal, in NumPy alone."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metadqn_jax.checks import check_count, check_name, require

HOLD, NEAR, BESIDE = range(3)  # pick it up; walk up to it; put the one down beside the other
KINDS = {"hold": HOLD, "near": NEAR, "beside": BESIDE}
GOALS, RULES = np.array([1, 3, 4], np.uint8), np.array([1, 2, 3], np.uint8)  # their numbers as xminigrid's goals and rules
BALL, SQUARE, PYRAMID = 3, 4, 5
OBJECTS = np.array([(tile, colour) for tile in (BALL, SQUARE, PYRAMID) for colour in (1, 2, 3, 4)], np.uint8)
NONE = -1


class Rulesets(NamedTuple):
    """As xminigrid encodes them: goals uint8 [n, 5], rules uint8 [n, rules, 7] and first objects uint8 [n, objects, 2]."""

    goals: np.ndarray
    rules: np.ndarray
    objects: np.ndarray

    def only(self, which: Any) -> "Rulesets":
        """Those at `which`, indices or a mask; at one index, that one without the leading axis."""
        return Rulesets(*(part[which] for part in self))


def make_rulesets(
    count: int, rules: int = 1, distractors: int = 2, seed: int = 0, goals: Sequence[str] = tuple(KINDS)
) -> Rulesets:
    """Up to `count` distinct rulesets, always the same for a seed; fewer where that many are hard to find.

    A goal is to hold an object, to come near it, or to put it beside another, as `goals` say. Each of the `rules` makes one
    object that is still needed out of one or two new ones, under the same three conditions, so that all rules and all
    objects but the `distractors` are needed, each once: every ruleset can be solved. Objects are balls, squares and pyramids
    in four colours, each there once at most. Where two are alike but for the order of rules or objects, there is one.
    Raises `Misuse` on sizes < 0, on other goals, and where there might not be enough objects.
    """
    for name, size, least in (("count", count, 1), ("rules", rules, 0), ("distractors", distractors, 0), ("seed", seed, 0)):
        check_count(name, size, least)
    most = 2 + 2 * rules + distractors
    require(
        most <= len(OBJECTS),
        f"rules and distractors must leave enough of {len(OBJECTS)} objects, got {rules} and {distractors}, which take up to "
        f"{most}; lower one of them.",
    )
    require(
        isinstance(goals, Sequence) and not isinstance(goals, str) and len(goals) > 0,
        f"goals must be a tuple of at least one kind, got {goals!r}; choose from {', '.join(KINDS)}, as in ('hold',).",
    )
    kinds = np.array([check_name("kind of goal", goal, KINDS) for goal in goals])
    drawn = _draw(np.random.default_rng(seed), 4 * count, rules, distractors, kinds)
    _, first = np.unique(_rows(*drawn), axis=0, return_index=True)
    return drawn.only(np.sort(first)[:count])


def held_out(rulesets: Rulesets, share: float, combinations: bool) -> tuple[Rulesets, Rulesets]:
    """(train, test): each goes to one side by a hash of its numbers, about `share` of them to test.

    With `combinations` the hash leaves the objects out, so that no goal is on both sides with the same rules, and test keeps
    only what is made of goals and rules that train has too, one by one. Raises `Misuse` where a side stays empty.
    """
    hashed = _rows(*rulesets[: 2 if combinations else 3])
    digests = [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big") for row in hashed]
    tested = np.array(digests) < share * 2.0**64
    train = rulesets.only(~tested)
    if combinations:
        goals, rules = set(map(bytes, train.goals)), set(map(bytes, train.rules.reshape(-1, 7)))
        tested &= [bytes(goal) in goals and {*map(bytes, some)} <= rules for goal, some in zip(*rulesets[:2], strict=True)]
    sizes, cure = (len(train.goals), int(tested.sum())), ', or take unseen="rulesets"' if combinations else ""
    require(
        min(sizes) > 0,
        f"a split must leave rulesets on both sides, got {sizes[0]} to train and {sizes[1]} to test; "
        f"change share or count{cure}.",
    )
    return train, rulesets.only(tested)


def _draw(rng: np.random.Generator, count: int, rules: int, distractors: int, kinds: np.ndarray) -> Rulesets:
    """Backwards: `needed` holds the indices of `sizes` objects that must be there; each rule makes one of them out of others.

    Of `fresh`, all objects in random order, the first `taken` are in use.
    """
    every = np.arange(count)
    fresh = rng.permuted(np.tile(np.arange(len(OBJECTS)), (count, 1)), axis=1)
    kind = kinds[rng.integers(0, len(kinds), count)]
    taken = sizes = 1 + (kind == BESIDE)
    needed = np.full((count, 2 + rules + distractors), NONE)
    needed[:, 0], needed[:, 1] = fresh[:, 0], np.where(kind == BESIDE, fresh[:, 1], NONE)
    goals = np.concatenate([GOALS[kind][:, None], _pair(needed[:, 0], needed[:, 1])], 1)
    encoded = np.zeros((count, max(1, rules), 7), np.uint8)
    for i in range(rules):
        kind, which = rng.integers(0, 3, count), rng.integers(0, sizes)
        product, one = OBJECTS[needed[every, which]], fresh[every, taken]
        other = np.where(kind == BESIDE, fresh[every, taken + 1], NONE)
        pair = _pair(one, other)
        alone = np.concatenate([pair[:, :2], product, pair[:, 2:]], 1)  # nothing behind
        both = np.concatenate([pair, product], 1)
        encoded[:, i, 0], encoded[:, i, 1:] = RULES[kind], np.where((kind == BESIDE)[:, None], both, alone)
        needed[every, which], needed[every, sizes] = one, other
        sizes, taken = sizes + (kind == BESIDE), taken + 1 + (kind == BESIDE)
    for i in range(distractors):
        needed[every, sizes + i] = fresh[every, taken + i]
    return Rulesets(goals, _sorted(encoded), _sorted(_tiles(needed)))


def _pair(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Two objects by their indices, uint8 [n, 4], the smaller one first; or one, and zeros."""
    low, high = np.where(other == NONE, one, np.minimum(one, other)), np.where(other == NONE, NONE, np.maximum(one, other))
    return np.concatenate([_tiles(low), _tiles(high)], 1)


def _tiles(indices: np.ndarray) -> np.ndarray:
    """Objects [..., 2] by their indices."""
    return np.where((indices == NONE)[..., None], 0, OBJECTS[indices]).astype(np.uint8)


def _sorted(rows: np.ndarray) -> np.ndarray:
    """[n, rows, numbers] with each one's rows in order."""
    order = np.argsort(rows @ 256.0 ** np.arange(rows.shape[-1])[::-1], axis=1)
    return np.take_along_axis(rows, order[..., None], 1)


def _rows(*parts: np.ndarray) -> np.ndarray:
    """Each ruleset as one row of numbers."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], 1)
