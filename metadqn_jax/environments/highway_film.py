"""What a highway looks like from above: states as images that follow the ego."""

import numpy as np

from metadqn_jax.environments.highway_traffic import LANE, LENGTH, WIDTH, HighwayState

SCALE = 4  # pixels per metre
BACK, FRONT = 30, 120  # metres in sight behind and before the ego
COLORS = ((196, 214, 180), (90, 90, 96), (215, 215, 215), (86, 180, 233), (230, 159, 0), (213, 94, 0))
GRASS, ROAD, LINE, DRIVER, EGO, CRASHED = (np.array(color, np.uint8) for color in COLORS)


def film(states: HighwayState, lanes: int) -> np.ndarray:
    """Frames uint8 [T, height, width, 3] of `states` with a leading [T], on a road of `lanes`; its right is below.

    The ego is orange, and who has crashed is red. `Highway.simulate` gives the states after each tick for a smooth film.
    """
    rows = [np.asarray(leaf) for leaf in (states.x, states.y, states.heading, states.crashed)]
    across = np.arange(-LANE, LANE * lanes, 1 / SCALE) + 0.5 / SCALE
    ahead = np.arange(-BACK, FRONT, 1 / SCALE) + 0.5 / SCALE
    return np.stack([_frame(*one, across[:, None], ahead[None], lanes) for one in zip(*rows, strict=True)])


def _frame(x, y, heading, crashed, across, ahead, lanes) -> np.ndarray:
    """One image [height, width, 3], of pixels `across` [height, 1] and `ahead` [1, width] of the ego, in metres."""
    place = x[0] + ahead
    beside = (across + LANE / 2) / LANE  # in lanes, from the road's left edge
    on_edge = np.abs(beside - np.round(beside)) < 0.5 / SCALE
    outermost = (np.round(beside) == 0) | (np.round(beside) == lanes)
    image = np.where(((beside > 0) & (beside < lanes))[..., None], ROAD, GRASS)
    marked = on_edge & (beside > -0.5) & (beside < lanes + 0.5) & (outermost | (np.mod(place, 12) < 4))
    image = np.where(marked[..., None], LINE, image)
    for i in range(x.size):
        along = np.cos(heading[i]) * (place - x[i]) + np.sin(heading[i]) * (across - y[i])
        aside = np.cos(heading[i]) * (across - y[i]) - np.sin(heading[i]) * (place - x[i])
        covered = (np.abs(along) < LENGTH / 2) & (np.abs(aside) < WIDTH / 2)
        color = CRASHED if crashed[i] else EGO if i == 0 else DRIVER
        image = np.where(covered[..., None], color, image)
    return image
