"""Programs on which releases of jaxlib hang or crash on a CPU: why pyproject.toml bounds jax and the suite has one thread."""

import os
import subprocess
import sys

import pytest

CHOLESKY = f"""
import jax, jax.numpy as jnp

noise = jax.random.normal(jax.random.key(0), ({max(4, 2 * (os.cpu_count() or 1))}, 4096, 9, 9))
positive = noise @ jnp.swapaxes(noise, -1, -2) + 10 * jnp.eye(9)

@jax.jit
def factors(matrices):
    return [jnp.linalg.cholesky(one * (1 + 0.1 * i) + jnp.eye(9)) for i, one in enumerate(matrices)]

for _ in range(100):
    jax.block_until_ready(factors(positive))
"""
REDUCTION = """
import jax, jax.numpy as jnp

u, v = jax.random.normal(jax.random.key(0), (2, 3, 1, 2, 2, 8, 8, 8))
jax.block_until_ready(jax.jit(lambda u, v: jnp.sum(u * v, axis=3))(u, v))
"""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(CHOLESKY, id="as many batched Cholesky factors side by side as threads wait for each other"),
        pytest.param(REDUCTION, id="a reduction of rank 7 crashes 0.10.2 and 0.11.0: jax issue 39257"),
    ],
)
def test_a_program_ends_with_this_release_and_one_thread(program):
    """MJX and MQL solve batches of systems; convolutions under vmap make reductions of rank 7."""
    done = subprocess.run([sys.executable, "-c", program], env={**os.environ, "JAX_PLATFORMS": "cpu"}, timeout=240)
    assert done.returncode == 0, "this jaxlib crashes on a CPU; install a release within the bounds of pyproject.toml"
