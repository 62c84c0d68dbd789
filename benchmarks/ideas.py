"""What each idea that makes the relaxed one-hot law fast brings: the time without it to with it.

    python -m benchmarks.ideas [--seconds 1] [--markdown]

One thread, float32, temperature 0.5, one idea taken out at a time, in turn with all of them in.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from benchmarks import bench, tables, timing
from benchmarks.bench_torch import backward, drawn, elbo_term, gradient

Step = Callable[[], object]
SHAPES = bench.SHAPES[:4]


def torch_steps(shape: tuple[int, ...]) -> dict[str, dict[str, Step]]:
    """By operation and idea; a step takes its idea out while it runs."""
    import torch

    from relaxed_dists.pyro import RelaxedOneHotCategorical as Law
    from relaxed_dists_pyro import _ops, _softmax

    torch.set_num_threads(1)
    leaf, weights, t = torch.randn(shape).requires_grad_(), torch.randn(shape), torch.tensor(0.5)
    without: dict[str, Any] = {
        "a look in place of masks": patch.object(_ops.ops, "plain", lambda x: False),
        "words of random bits": patch.object(_ops, "_single", lambda like: False),
        "NumPy's generator": patch.object(_ops, "MANY", 2**62),
        "one function a pass": patch.object(_ops, "eager", lambda: False),
        "few categories by hand": patch.object(_softmax, "FEW", 0),
        "own density": patch.object(Law, "_own", lambda self, y: False),
    }

    def less(idea: Any, step: Step) -> Step:
        def run() -> object:
            with idea:
                return step()

        return run

    def law(x: torch.Tensor) -> Any:
        return Law(t, logits=x)

    operations = {
        "forward": drawn(law, leaf.detach()),
        "forward and backward": backward(law, leaf, weights),
        "ELBO term": gradient(elbo_term(law, weights), leaf),
    }
    return {
        operation: {"": step} | {name: less(idea, step) for name, idea in without.items()}
        for operation, step in operations.items()
    }


def jax_steps(shape: tuple[int, ...]) -> dict[str, dict[str, Step]]:
    """The same, of functions that are compiled without their idea."""
    import jax
    import jax.numpy as jnp
    from jax import random

    from benchmarks.bench_jax import of
    from relaxed_dists.numpyro import OneHotCategorical
    from relaxed_dists.numpyro import RelaxedOneHotCategorical as Law
    from relaxed_dists_numpyro import _ops

    logits, weights = (random.normal(random.key(i), shape) for i in range(2))
    key, draw = random.key(2), of(lambda x: Law(0.5, logits=x))

    def one_word(key: Any, number: int) -> Any:
        return random.bits(key, (number,), jnp.uint32)

    def shaped(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        return random.bits(key, shape, jnp.uint32), 32

    def argmax(self: Any, x: Any) -> Any:
        return jax.nn.one_hot(x.argmax(-1), x.shape[-1], dtype=x.dtype)

    without: dict[str, Any] = {
        "both words of Threefry": patch.object(_ops, "_threefry", one_word),
        "both words, drawn flat": patch.object(_ops, "_bits", shaped),
        "own density": patch.object(Law, "_own", lambda self, y: False),
        "the first of the largest": patch.object(_ops._JaxOps, "one_hot_argmax", argmax),
    }

    def term(logits: Any) -> Any:
        x, density = draw(key, logits)
        return (x * weights).sum() + density.sum()

    def compiled(function: Any, idea: Any = None) -> Step:
        made = jax.jit(lambda x: function(x))  # its own: jax.jit keeps what it compiled
        if idea is None:
            made(logits)
        else:
            with idea:
                made(logits)
        return lambda: jax.block_until_ready(made(logits))

    operations = {
        "forward": lambda x: draw(key, x)[0],
        "ELBO term": jax.value_and_grad(term),
        "discrete draw": lambda x: OneHotCategorical(logits=x).sample(key),
    }
    return {
        operation: {"": compiled(function)}
        | {name: compiled(function, idea) for name, idea in without.items()}
        for operation, function in operations.items()
    }


def main() -> None:
    """Print a table for each framework."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of each comparison, about")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # JAX has no other way to be told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    for framework, steps in (("torch", torch_steps), ("jax", jax_steps)):
        rows: dict[tuple[str, str], list[str]] = {}
        for shape in SHAPES:
            for operation, subjects in steps(shape).items():
                times = timing.interleaved(subjects, options.seconds)
                for idea in list(subjects)[1:]:
                    found = f"{timing.ratio(times, idea, ''):.2f}"
                    rows.setdefault((idea, operation), []).append(found)
        title = f"{framework}: time without an idea, 1 is the time with it"
        header = ("idea", "operation", *map(bench.name, SHAPES))
        tables.show(title, header, [(*k, *v) for k, v in rows.items()], options.markdown)


if __name__ == "__main__":
    main()
