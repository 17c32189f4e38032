"""A plain installation, without extras, brings all that the command line imports."""

import importlib.metadata
import json
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BLOCKED = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Absent())
import metadqn_jax.cli
import gymnax
"""


def brought(name):
    """The distributions that installing `name` without extras brings, itself included."""
    found, left = set(), [Requirement(name)]
    while left:
        one = left.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in found:
            continue
        found.add(key)
        for text in importlib.metadata.requires(one.name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                left.append(needed)
    return {distribution for distribution, _ in found}


def test_the_command_line_imports_nothing_but_what_a_plain_installation_brings():
    plain = brought("metadqn-jax")
    owners = importlib.metadata.packages_distributions()
    absent = [module for module, names in owners.items() if not plain & {canonicalize_name(name) for name in names}]
    assert "pytest" in absent
    assert "xminigrid" in absent
    done = subprocess.run([sys.executable, "-c", BLOCKED, json.dumps(absent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
