"""The experiments run from end to end in their --quick form, which keeps nothing."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "experiments").glob("*.py") if "__main__" in path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_quick(script):
    results = {path: path.stat().st_mtime for path in (ROOT / "experiments" / "results").glob("*")}
    command = [sys.executable, str(ROOT / "experiments" / script), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert results == {path: path.stat().st_mtime for path in (ROOT / "experiments" / "results").glob("*")}
