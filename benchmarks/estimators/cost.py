"""The cost of each estimator, relative to plain straight-through: time and saved memory.

    python -m benchmarks.estimators.cost [--seconds 4] [--markdown]

A round times a draw and its gradient by the logits in float32, for each estimator in turn; the
table has medians over rounds. Saved memory is what the forward pass keeps for the backward pass
beside the logits, in numbers for each number of the sample.
"""

import argparse
import os
import time
import weakref
from collections.abc import Callable
from importlib.metadata import version
from math import prod
from typing import Any

from benchmarks.tables import show
from benchmarks.timing import interleaved, ratio
from relaxed_dists._distributions.estimator_base import short_repr

SHAPES = ((100, 20, 10), (4096, 64), (256, 4096))


def estimators(names: Any) -> list[Any]:
    """The estimators to compare, plain straight-through first."""
    return [
        names.StraightThrough(),
        names.GumbelSoftmax(0.5),
        names.GumbelSoftmax(0.5, hard=False),
        names.DecoupledGumbelSoftmax(0.5, 1.0),
        names.GappedStraightThrough(1.0),
        names.ReinMax(),
        names.GumbelRao(0.5, 10),
        names.ReinMaxRao(0.5, 10),
    ]


def torch_steps(shape: tuple[int, ...]) -> dict[str, tuple[Callable[[], object], float]]:
    """For each estimator, a step in torch and the bytes that the step saves."""
    import torch

    from relaxed_dists import pyro as names

    torch.manual_seed(0)
    logits, weights = torch.randn(shape, requires_grad=True), torch.randn(shape)

    def forward(estimator: Any) -> torch.Tensor:
        d = names.OneHotCategorical(logits=logits, estimator=estimator)
        return (d.rsample() * weights).sum()

    def saved(estimator: Any) -> float:
        kept: list[weakref.ref[torch.Tensor]] = []

        def keep(x: torch.Tensor) -> torch.Tensor:
            kept.append(weakref.ref(x))
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            loss = forward(estimator)
        # While the loss lives, autograd keeps alive only the tensors that its gradient needs.
        alive = [x for x in (ref() for ref in kept) if x is not None]
        storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in alive}
        loss.backward()
        return sum(storages.values()) - sum(
            storages.get(x.untyped_storage().data_ptr(), 0) for x in (logits, weights)
        )

    def step(estimator: Any) -> Callable[[], object]:
        return lambda: torch.autograd.grad(forward(estimator), logits)

    return {short_repr(e): (step(e), saved(e)) for e in estimators(names)}


def jax_steps(shape: tuple[int, ...]) -> dict[str, tuple[Callable[[], object], float]]:
    """The same steps in JAX, compiled; a step saves the bytes that jax.vjp keeps."""
    import jax

    from relaxed_dists import numpyro as names

    logits, weights = (jax.random.normal(jax.random.key(i), shape) for i in range(2))
    key = jax.random.key(2)

    def made(estimator: Any) -> tuple[Callable[[], object], float]:
        def forward(logits: Any, key: Any) -> Any:
            d = names.OneHotCategorical(logits=logits, estimator=estimator)
            return (d.sample(key) * weights).sum()

        # The value is computed too, since it needs the noise. The key is an argument, since XLA
        # might compute the noise of a constant key once, when it compiles.
        gradient = jax.jit(jax.value_and_grad(forward))
        _, back = jax.eval_shape(lambda x: jax.vjp(lambda x: forward(x, key), x), logits)
        saved = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(back))
        own = logits.nbytes + weights.nbytes  # every estimator keeps the weights
        return lambda: jax.block_until_ready(gradient(logits, key)), saved - own

    return {short_repr(e): made(e) for e in estimators(names)}


def main() -> None:
    """Print a table for each framework."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each framework and shape")
    parser.add_argument("--markdown", action="store_true", help="print tables of Markdown")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # JAX has no setting for one thread
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    import torch

    torch.set_num_threads(1)
    first = "StraightThrough()"
    for framework, steps_of, packages in (
        ("Pyro", torch_steps, ("pyro-ppl", "torch")),
        ("NumPyro", jax_steps, ("numpyro", "jax")),
    ):
        header, rows = ["estimator"], {}
        for shape in SHAPES:
            header += ["x".join(map(str, shape)), "saved"]
            steps = steps_of(shape)
            times = interleaved(
                {name: step for name, (step, _) in steps.items()},
                options.seconds,
                clock=time.process_time,  # CPU time, which other programs don't lengthen
            )
            for name, (_, saved) in steps.items():
                cells = [f"{ratio(times, name, first):.2f}", f"{saved / 4 / prod(shape):.1f}"]
                rows.setdefault(name, [name]).extend(cells)
        about = ", ".join(f"{package} {version(package)}" for package in packages)
        title = f"{framework} ({about}, 1 thread): time, and saved numbers for each of the sample's"
        show(title, header, rows.values(), options.markdown)


if __name__ == "__main__":
    main()
