"""Strictness for the whole suite, set before jax is first used."""

import os
import pathlib

# One thread, here and in the programs that tests start: as many batched factorisations side by side as jaxlib has threads, and
# MJX and MQL make some, wait for each other for ever (test_jaxlib.py). pytest-xdist's workers keep the other cores busy.
os.environ["PJRT_NPROC"] = "1"

import jax

cache = pathlib.Path(__file__).parent.parent / ".cache" / "xla"
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


def pytest_configure(config):
    """Compiling is most of what the quick tests do, and they compute little: leave out LLVM's expensive passes, and XLA's newer
    emitters of fused loops, a third of what remains."""
    quick = "not slow" in config.option.markexpr
    jax.config.update("jax_disable_most_optimizations", quick)
    if quick:  # read when the first program is compiled
        os.environ["XLA_FLAGS"] = f"--xla_cpu_use_fusion_emitters=false {os.environ.get('XLA_FLAGS', '')}"


os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)  # for the programs that tests start
