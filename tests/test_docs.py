"""Every public name says what it is, and every example in a docstring runs."""

import doctest
import importlib
import inspect
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent / "metadqn_jax"
MODULES = sorted(
    "metadqn_jax." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if path.stem != "__init__"
)


def public(module):
    for name, thing in vars(module).items():
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__ and callable(thing):
            yield name, thing


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public_name, thing in public(module):
        doc = inspect.getdoc(thing)
        assert doc, f"{name}.{public_name} has no docstring"
        assert not doc.startswith(f"{public_name}("), f"{name}.{public_name} has only the docstring that Python makes"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0
