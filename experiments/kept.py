"""Results that are kept cell by cell: what stands is not run again, and several processes share the cells of an experiment."""

import contextlib
import json
import pathlib
import re
import time

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
        with _claimed(claim := _claim(path, *cell)) as ours:
            if not ours:
                print(f"{', '.join(cell)} is left to the process that made {claim}; if there is none, delete it and come again")
            elif anew or _at(load(path), cell) is None:
                _keep(path, cell, work(*cell), show)


def load(path):
    """What the file holds, {} where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def _keep(path, cell, found, show):
    """Add to what the file holds by now, and show all of it, while no other process does."""
    with _claimed(_claim(path), wait=True):
        results = load(path)
        place = results
        for name in cell[:-1]:
            place = place.setdefault(name, {})
        place[cell[-1]] = found
        path.write_text(json.dumps(results, indent=1))
        show(results)


def _at(results, cell):
    for name in cell:
        results = (results or {}).get(name)
    return results


def _claim(path, *names):
    """The file that claims a cell, or without names the JSON file itself, for who writes it."""
    return path.with_name(re.sub(r"\W+", "_", "-".join((path.stem, *names))) + ".claim")


@contextlib.contextmanager
def _claimed(claim, wait=False):
    """Whether the file `claim`, until the block is left, tells others that this process is at it; not where another is."""
    ours = _made(claim)
    if wait and not ours:
        print(f"waiting for the process that made {claim}; if there is none, delete it")
        while not _made(claim):
            time.sleep(0.1)
        ours = True
    try:
        yield ours
    finally:
        if ours:
            claim.unlink(missing_ok=True)


def _made(claim):
    try:
        claim.open("x").close()
    except FileExistsError:
        return False
    return True
