"""Results that are kept cell by cell: what stands is not run again, and several processes share the cells of an experiment."""

import contextlib
import fcntl
import json
import pathlib
import re

import jax

RESULTS = pathlib.Path(__file__).parent / "results"


def compile_fast():
    """For smoke tests, which compute next to nothing: what is compiled from now on leaves the expensive passes out."""
    jax.config.update("jax_disable_most_optimizations", True)


def fill(path, cells, work, show, *, anew=False, quick=False):
    """Put `work(*cell)` where the JSON file at `path` holds nothing yet, for each of `cells`: tuples of names, the outer first.

    After each, `show(results)` makes the tables and figures of all that is there. What another process is at is left to it.
    anew: what stands is made again.   quick: all is run, nothing is kept.
    """
    if quick:
        compile_fast()
    for cell in cells:
        if quick:
            work(*cell)
            continue
        with _locked(path, *cell, wait=False) as ours:
            if not ours:
                print(f"{', '.join(cell)} is left to another process, which is at it")
            elif anew or _at(load(path), cell) is None:
                _keep(path, cell, work(*cell), show)


def load(path):
    """What the file holds, {} where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def _keep(path, cell, found, show):
    """Add to what the file holds by now, and show all of it, while no other process does."""
    with _locked(path):
        results = load(path)
        place = results
        for name in cell[:-1]:
            place = place.setdefault(name, {})
        place[cell[-1]] = found
        whole = path.with_suffix(".part")
        whole.write_text(json.dumps(results, indent=1))
        whole.replace(path)  # at once, so that who is stopped here leaves the old file or the new one
        show(results)


def _at(results, cell):
    for name in cell:
        results = (results or {}).get(name)
    return results


@contextlib.contextmanager
def _locked(path, *cell, wait=True):
    """Whether no other process is at the cell, or without one at the file itself; none comes there until the block is left.

    The operating system holds the lock, and frees it however a process ends.
    """
    locks = path.parent / ".locks"
    locks.mkdir(exist_ok=True)
    with (locks / re.sub(r"\W+", "_", "-".join((path.stem, *cell)))).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
