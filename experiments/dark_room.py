"""RL² in the dark: python experiments/dark_room.py [--seeds N] [--only NAME] [--quick].

Beside each episode's return stand a plan (a new cell with every step until the goal is found), what no policy can exceed, both
exact, and the return where the goal is known, over the tasks that were drawn. Laskin et al. (2023) publish these rooms as
curves of in-context learning alone.
"""

from typing import Any

import in_trials
from command_line import start
from kept import RESULTS

from metadqn_jax.planners.dark_room import bayes_bracket, random_return
from metadqn_jax.tasks.dark_room import dark_room, key_to_door

ROOM: dict[str, Any] = {"size": 9}
HARD: dict[str, Any] = {"size": 17, "once": True}
CASES = {  # (family, the room as planners know it, None where they know none)
    "dark room": (lambda: dark_room(held_out=0), ROOM),
    "dark room, new goals": (dark_room, None),
    "hard dark room": (lambda: dark_room(17, hard=True, held_out=0), HARD),
    "key to door": (key_to_door, None),
}
PATH = RESULTS / "dark_room.json"


def row(name, options):
    """The result of one case, with its references by episode."""
    family, room = CASES[name]
    result = in_trials.rl2(name, family(), options)
    episodes = len(result["by_episode"])
    if room is None:
        return {**result, "random_episode": result["random"] / episodes, "plan": None, "bound": None}
    plan, bound = (line.tolist() for line in bayes_bracket(episodes, **room))
    return {**result, "random_episode": random_return(**room), "plan": plan, "bound": bound}


def save(rows):
    """results/dark_room.md and .png."""
    PATH.with_suffix(".md").write_text(in_trials.by_episode(rows))
    in_trials.figure(PATH.with_suffix(".png"), "RL² in the dark", rows)


def main(options: in_trials.Options) -> None:
    """Run what is missing, and write results/dark_room.json, .md and .png."""
    in_trials.run(PATH, CASES, options, lambda name: row(name, options), save)


if __name__ == "__main__":
    start(main, in_trials.Options, __doc__)
