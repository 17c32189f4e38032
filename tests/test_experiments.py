"""The experiments run from end to end in their --quick form, which keeps nothing."""

import os
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
    cheap = {**os.environ, "XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}  # to compile, as in the tests that are not slow
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900, env=cheap)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert results == {path: path.stat().st_mtime for path in (ROOT / "experiments" / "results").glob("*")}
