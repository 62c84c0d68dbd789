"""The gain of each idea that makes the one-hot distributions fast: time without it to with it.

    python -m benchmarks.speed.ideas [--seconds 1] [--markdown]

Steps without one idea are timed in turn with steps that have all ideas, on one thread, in float32,
at temperature 0.5.
"""

import argparse
import contextlib
import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from benchmarks import tables, timing
from benchmarks.speed import bench
from benchmarks.speed.bench_torch import backward, drawn, elbo_term, gradient

Step = Callable[[], object]
SHAPES = (*bench.SHAPES, (16384, 512))


def torch_steps(shape: tuple[int, ...]) -> dict[str, dict[str, Step]]:
    """Steps by operation and idea; a step switches its idea off while it runs."""
    import torch

    from relaxed_dists.pyro import RelaxedOneHotCategorical as Relaxed
    from relaxed_dists.pyro import RelaxedOneHotCategoricalStraightThrough
    from relaxed_dists_torch import kernels, softmax
    from relaxed_dists_torch import noise as _noise
    from relaxed_dists_torch import ops as _ops

    torch.set_num_threads(1)
    leaf, weights, t = torch.randn(shape).requires_grad_(), torch.randn(shape), torch.tensor(0.5)

    def softmaxes(x: Any, noise: Any, t: Any, hard: bool) -> Any:
        y = torch.log_softmax((x + noise) / t, -1)
        return y, _ops.ops.one_hot_argmax(y) if hard else y.exp()

    def summed(x: Any, t: Any, y: Any, simplex: bool, own: bool, *link: Any) -> Any:
        return (torch.log_softmax(x - t * y, -1) - y).sum(-1)

    def by_torch() -> Any:
        stack = contextlib.ExitStack()
        for one, forward in ((softmax.Softmaxes, softmaxes), (softmax.SumLogSoftmax, summed)):
            stack.enter_context(patch.object(one, "forward", staticmethod(forward)))
        return stack

    def blocks(size: int) -> Any:
        stack = contextlib.ExitStack()
        for module in (_noise, softmax):
            stack.enter_context(patch.object(module, "BLOCK", size))
        return stack

    without: dict[str, Callable[[], Any]] = {
        "a look in place of masks": lambda: patch.object(kernels, "all_finite", lambda x: False),
        "words of random bits": lambda: patch.object(_noise, "_single", lambda like: False),
        "NumPy's generator": lambda: patch.object(_noise, "MANY", 2**62),
        "one function a pass": lambda: patch.object(_ops, "eager", lambda: False),
        "by hand, in place": by_torch,
        "blocks": lambda: blocks(2**62),
        "own density": lambda: patch.object(Relaxed, "_own", lambda self, y: False),
    }

    def less(idea: Any, step: Step) -> Step:
        def run() -> object:
            with idea():
                return step()

        return run

    def soft(x: torch.Tensor) -> Any:
        return Relaxed(t, logits=x)

    def hard(x: torch.Tensor) -> Any:
        return RelaxedOneHotCategoricalStraightThrough(t, logits=x)

    operations = {
        "forward": drawn(soft, leaf.detach()),
        "forward and backward": backward(soft, leaf, weights),
        "ELBO term": gradient(elbo_term(soft, weights), leaf),
        "hard, ELBO term": gradient(elbo_term(hard, weights), leaf),
    }
    # The step with all ideas has a patch without effect: patching takes as long as a small draw.
    every = {"": lambda: patch.object(_noise, "MANY", _noise.MANY)} | without
    return {
        operation: {name: less(idea, step) for name, idea in every.items()}
        for operation, step in operations.items()
    }


def jax_steps(shape: tuple[int, ...]) -> dict[str, dict[str, Step]]:
    """The same steps in JAX; each function is compiled without its idea."""
    import jax
    import jax.numpy as jnp
    from jax import random

    from benchmarks.speed.bench_jax import of
    from relaxed_dists._distributions import bernoulli, formulas
    from relaxed_dists.numpyro import OneHotCategorical, RelaxedBernoulli
    from relaxed_dists.numpyro import RelaxedOneHotCategorical as Relaxed
    from relaxed_dists_jax import noise as _noise
    from relaxed_dists_jax import ops as _ops

    logits, weights = (random.normal(random.key(i), shape) for i in range(2))
    drawn_by, draw = random.key(2), of(lambda x: Relaxed(0.5, logits=x))
    binary = of(lambda x: RelaxedBernoulli(0.5, logits=x))
    rounds: Any = _noise._threefry

    def one_word(key: Any, number: int) -> Any:
        return random.bits(key, (number,), jnp.uint32)

    def shaped(key: Any, shape: tuple[int, ...], dtype: Any) -> Any:
        return random.bits(key, shape, jnp.uint32), 32

    hots = (bernoulli.logit_concrete, bernoulli.binary_concrete, bernoulli.binary_concrete_log_prob)
    flat = {formula.name: formula.formula for formula in hots}

    def masked(ops: Any, logits: Any, noise: Any = 0.0) -> Any:
        kept, finite = formulas.finite_or(ops, logits)
        scores = ops.where(kept, finite + noise, -jnp.inf)
        return ops.where(kept, ops.one_hot_argmax(scores), 0.0)

    def argmax(self: Any, x: Any) -> Any:
        return jax.nn.one_hot(x.argmax(-1), x.shape[-1], dtype=x.dtype)

    without: dict[str, Any] = {
        "both words of Threefry": patch.object(_noise, "_threefry", one_word),
        "both words, drawn flat": patch.object(_noise, "_bits", shaped),
        "JAX's rounds for a few": patch.object(_noise, "FEW", 0),
        "flat binary values": patch.dict(_ops.ops.kernels, flat),
        "own density": patch.object(Relaxed, "_own", lambda self, y: False),
        "noise apart": patch.dict(_ops.ops.kernels, {formulas.hard_argmax.name: masked}),
        "the first of the largest": patch.object(_ops._JaxOps, "one_hot_argmax", argmax),
    }

    def term(draw: Any) -> Any:
        def total(logits: Any, key: Any) -> Any:
            x, density = draw(key, logits)
            return (x * weights).sum() + density.sum()

        return jax.value_and_grad(total)

    def compiled(function: Any, idea: Any = None) -> Step:
        made = jax.jit(lambda *given: function(*given))  # new: jax.jit caches by function
        rounds.clear_cache()
        with idea or contextlib.nullcontext():
            made(logits, drawn_by)
        return lambda: jax.block_until_ready(made(logits, drawn_by))

    operations = {
        "forward": lambda x, key: draw(key, x)[0],
        "ELBO term": term(draw),
        "binary ELBO term": term(binary),
        "discrete draw": lambda x, key: OneHotCategorical(logits=x).sample(key),
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
    if hasattr(os, "sched_setaffinity"):  # JAX has no setting for one thread
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
