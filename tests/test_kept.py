"""What experiments keep: cell by cell, so that one that is stopped goes on where it was."""

import contextlib
import importlib.util
import json
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

place = pathlib.Path(__file__).parent.parent / "experiments" / "kept.py"
spec = importlib.util.spec_from_file_location("kept", place)
kept = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kept)

CELLS = [("a", "x"), ("a", "y"), ("b", "x")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.json"


def filled(path, cells, stop_at=None, **choices):
    """The cells that were worked on, and what was shown, of a run that may be stopped."""
    done, shown = [], []

    def work(*cell):
        if cell == stop_at:
            raise KeyboardInterrupt
        done.append(cell)
        return len(done)

    with contextlib.suppress(KeyboardInterrupt):
        kept.fill(path, cells, work, shown.append, **choices)
    return done, shown


def test_what_stands_is_not_run_again(path):
    assert filled(path, CELLS, stop_at=("b", "x"))[0] == CELLS[:2]
    assert json.loads(path.read_text()) == {"a": {"x": 1, "y": 2}}
    done, shown = filled(path, CELLS)
    assert done == CELLS[2:]
    assert shown == [{"a": {"x": 1, "y": 2}, "b": {"x": 1}}] == [json.loads(path.read_text())]
    assert filled(path, CELLS) == ([], [])
    assert filled(path, CELLS[:1], anew=True)[0] == CELLS[:1]


def test_what_another_process_wrote_meanwhile_stays(path):
    def work(name):
        path.write_text(json.dumps({"other": 1}))
        return 2

    kept.fill(path, [("mine",)], work, lambda results: None)
    assert kept.load(path) == {"other": 1, "mine": 2}


def test_processes_that_run_the_same_cells_share_them(path, capsys):
    done = {}

    def work(*cell):  # while one is at its first cell, another comes
        done["one"] = [*done.get("one", []), cell]
        done.setdefault("other", filled(path, CELLS)[0])
        return 7

    kept.fill(path, CELLS, work, lambda results: None)
    assert done == {"one": CELLS[:1], "other": CELLS[1:]}
    assert kept.load(path) == {"a": {"x": 7, "y": 1}, "b": {"x": 2}}
    assert "a, x is left to another process" in capsys.readouterr().out


KILLED = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import kept
kept.fill(pathlib.Path(sys.argv[2]), [("a", "x")], lambda *cell: os.kill(os.getpid(), signal.SIGKILL), print)
"""


def test_a_process_that_is_killed_at_a_cell_leaves_it_to_the_next(path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(place.parent), str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert filled(path, CELLS)[0] == CELLS


def test_cells_whose_work_fails_are_free_again(path):
    filled(path, CELLS, stop_at=("a", "y"))
    assert filled(path, CELLS)[0] == CELLS[1:]


def test_what_is_found_waits_until_another_process_has_written(path):
    found, written = [], {"other": 1}

    def finish(name):
        found.append(name)
        return 2

    def slow(results):  # still locked: the other's result has to wait until this one is shown
        thread.start()
        thread.join(0.3)
        assert found == ["mine"]
        assert json.loads(path.read_text()) == written

    thread = threading.Thread(target=kept.fill, args=(path, [("mine",)], finish, lambda results: None))
    kept.fill(path, [("other",)], lambda name: 1, slow)
    thread.join()
    assert kept.load(path) == {**written, "mine": 2}


def test_who_is_stopped_while_writing_loses_nothing(path, monkeypatch):
    filled(path, CELLS[:1])

    def stopped(whole, text):
        with whole.open("w") as file:
            file.write(text[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "write_text", stopped)
        filled(path, CELLS)
    assert kept.load(path) == {"a": {"x": 1}}


def test_a_smoke_test_runs_all_and_keeps_nothing(path):
    path.write_text(json.dumps({"a": {"x": 7}}))
    assert filled(path, CELLS, quick=True) == (CELLS, [])
    assert kept.load(path) == {"a": {"x": 7}}
