"""RL² in the dark: python experiments/dark_room.py [--seeds N] [--only NAME] [--quick].

Beside each episode's return stand a plan (a new cell with every step until the goal is found), what no policy can exceed, and
the return where the goal is known. Laskin et al. (2023) publish these rooms as curves of in-context learning alone.
"""

from typing import Any

import numpy as np
import trials
import tyro
from kept import RESULTS

from metadqn_jax import figures
from metadqn_jax.planners.dark_room import bayes_bracket, random_return
from metadqn_jax.tasks.dark_room import dark_room, key_to_door

ROOM: dict[str, Any] = {"size": 9}
HARD: dict[str, Any] = {"size": 17, "once": True}
CASES = {  # (family, the room as planners know it, None where there are several goals)
    "dark room": (lambda: dark_room(held_out=0), ROOM),
    "dark room, new goals": (dark_room, ROOM),
    "hard dark room": (lambda: dark_room(17, hard=True, held_out=0), HARD),
    "key to door": (key_to_door, None),
}
PATH = RESULTS / "dark_room.json"


def row(name, options):
    """The result of one case, with its references by episode."""
    family, room = CASES[name]
    result = trials.rl2(name, family(), options)
    episodes = len(result["by_episode"])
    if room is None:
        return {**result, "random_episode": result["random"] / episodes, "plan": None, "bound": None}
    plan, bound = (line.tolist() for line in bayes_bracket(episodes, **room))
    return {**result, "random_episode": random_return(**room), "plan": plan, "bound": bound}


def save(rows):
    """results/dark_room.md and .png."""
    PATH.with_suffix(".md").write_text(markdown(rows))
    series = {}
    for name, one in rows.items():
        lines = {"": one["by_episode"], ", plan": one["plan"], ", bound": one["bound"]}
        for which, means in lines.items():
            if means is not None:  # as shares of what a known goal gives, so that the rooms share one axis
                ends = one["ci95_by_episode"] if which == "" else np.stack([means, means], 1)
                low, high = np.array(ends).T / one["optimum"]
                shares = np.array(means) / one["optimum"]
                series[name + which] = {"x": range(1, len(means) + 1), "mean": shares, "low": low, "high": high}
    labels: dict[str, Any] = {"xlabel": "episode of the trial", "ylabel": "return as a share of the known goal's"}
    figures.lines(PATH.with_suffix(".png"), series, title="RL² in the dark: mean with 95 % interval", **labels)


def markdown(rows):
    """Three lines a case: ours, the plan and the bound."""
    lines = [
        "| return by episode | 1 | 2 | 3 | 4 | last | known goal | random | seeds | CPU-s a seed |",
        "|---|" + "---:|" * 9,
    ]
    for name, one in rows.items():
        facts = [
            f"{one['optimum']:.2f}",
            f"{one['random_episode']:.3f}",
            str(one["seeds"]),
            str(one["cpu_seconds"] // one["seeds"]),
        ]
        for which, means, rest in (
            ("RL² with Q-learning", one["by_episode"], facts),
            ("plan", one["plan"], [""] * 4),
            ("no policy exceeds", one["bound"], [""] * 4),
        ):
            if means is not None:
                shown = [f"{value:.2f}" for value in [*means[:4], means[-1]]]
                lines.append(" | ".join([f"| {name}: {which}", *shown, *rest]) + " |")
    return "\n".join(lines) + "\n"


def main(options: trials.Options) -> None:
    """Run what is missing, and write results/dark_room.json, .md and .png."""
    trials.run(PATH, CASES, options, lambda name: row(name, options), save)


if __name__ == "__main__":
    main(tyro.cli(trials.Options, description=__doc__))
