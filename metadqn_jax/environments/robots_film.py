"""What a robot looks like: its capsules as images, a running one from the side, an arm from above."""

from typing import NamedTuple

import numpy as np

from metadqn_jax.checks import check_installed
from metadqn_jax.environments.robots import load

SCALE = 80  # pixels per metre
COLORS = ((244, 244, 240), (168, 176, 160), (140, 148, 132), (86, 180, 233), (213, 94, 0))
AIR, EARTH, STRIPE, BODY, GOAL = (np.array(color, np.uint8) for color in COLORS)
SPOT = 0.06  # metres, a goal's radius


class View(NamedTuple):
    """Which two axes of the world are seen, from where to where in metres, and whether the first follows the robot."""

    axes: tuple[int, int]
    low: tuple[float, float]
    high: tuple[float, float]
    follows: bool


VIEWS = {"cheetah": View((0, 2), (-1.8, -0.25), (1.8, 1.35), True), "arm": View((0, 1), (-1.2, -1.2), (1.2, 1.2), False)}


def film(name: str, positions: np.ndarray, goal: np.ndarray | None = None) -> np.ndarray:
    """Frames uint8 [T, height, width, 3] of the robot called `name` at joint `positions` [T, nq]; `goal` [2] is a spot.

    The ground has a stripe every other metre. Raises `Misuse` without the extra `robots`.
    """
    mujoco, model, view = check_installed("mujoco", "robots"), load(name), VIEWS[name]
    data, capsule = mujoco.MjData(model), model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE
    radius, half = model.geom_size[capsule, :2].T
    frames = []
    for position in np.asarray(positions):
        data.qpos[:] = position
        mujoco.mj_kinematics(model, data)
        middle = data.geom_xpos[capsule][:, view.axes]
        along = half[:, None] * data.geom_xmat.reshape(-1, 3, 3)[capsule, :, 2][:, view.axes]
        x, y = _pixels(view, position[0] if view.follows else 0.0)
        image = np.where((view.follows & (y < 0))[..., None], np.where((x % 2 < 1)[..., None], EARTH, STRIPE), AIR)
        covered = np.any(_distances(x, y, middle, along) < radius, axis=-1, keepdims=True)
        image = np.where(covered, BODY, image)
        if goal is not None:
            image = np.where((np.hypot(x - goal[0], y - goal[1]) < SPOT)[..., None], GOAL, image)
        frames.append(image)
    return np.stack(frames)


def _pixels(view: View, place: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels are in the world, two arrays [height, width], the highest row first."""
    right, up = (np.arange(low, high, 1 / SCALE) + 0.5 / SCALE for low, high in zip(view.low, view.high, strict=True))
    x, y = np.meshgrid(place + right, up[::-1])
    return x, y


def _distances(x: np.ndarray, y: np.ndarray, middle: np.ndarray, along: np.ndarray) -> np.ndarray:
    """How far pixels are from segments middle ± along [segments, 2], [height, width, segments]."""
    away = np.stack([x, y], -1)[..., None, :] - middle
    share = (away * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
    return np.linalg.norm(away - np.clip(share, -1.0, 1.0)[..., None] * along, axis=-1)
