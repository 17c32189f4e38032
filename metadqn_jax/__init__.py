"""Meta-reinforcement learning with Q-learning in JAX; README.md says where things are."""

from importlib.metadata import version

__version__ = version("metadqn-jax")
