"""Action heads: how a network's outputs become values and actions. One head a file in `heads`; all of them are found here."""

from metadqn_jax.heads.base import Support
from metadqn_jax.heads.candidates import candidates
from metadqn_jax.heads.discrete import discrete, grid
from metadqn_jax.heads.exploration import by_dimension, held, ornstein_uhlenbeck
from metadqn_jax.heads.factored import factored, multi_discrete
from metadqn_jax.heads.naf import naf
from metadqn_jax.heads.sampled import sampled

__all__ = [
    "Support",
    "by_dimension",
    "candidates",
    "discrete",
    "factored",
    "grid",
    "held",
    "multi_discrete",
    "naf",
    "ornstein_uhlenbeck",
    "sampled",
]
