"""The time of the exact KL of relaxed distributions, against the sampled KL that it replaces.

A round runs each step once, in turn; the table has medians over rounds. The sampled KL is
log q - log p of a draw, with its gradient. The time of the draw and its gradient, which an ELBO
needs in any case, is subtracted from it. Run this as ``python benchmarks/kl.py``; the exit status
is the number of missed goals.
"""

import statistics
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

SHAPE, ROUNDS = (100, 20, 10), 60
T, U = 0.5, 2 / 3
GOALS = {"equal temperatures": 3.0, "unequal temperatures": 10.0}


def torch_steps() -> dict[str, Callable[[], object]]:
    """Each step in torch, forward and backward to the logits of both distributions."""
    import torch
    from torch.distributions import kl_divergence

    from relaxed_dists.pyro import RelaxedOneHotCategorical as Relaxed

    torch.manual_seed(0)
    logits, other = (torch.randn(SHAPE, requires_grad=True) for _ in range(2))
    t, u = torch.tensor(T), torch.tensor(U)

    def draw() -> None:
        Relaxed(t, logits=logits).rsample().sum().backward()

    def sampled() -> None:
        q, p = Relaxed(t, logits=logits), Relaxed(u, logits=other)
        value = q.rsample()
        (value.sum() + (q.log_prob(value) - p.log_prob(value)).sum()).backward()

    def exact(u: object) -> None:
        kl_divergence(Relaxed(t, logits=logits), Relaxed(u, logits=other)).sum().backward()

    return {
        "draw": draw,
        "sampled": sampled,
        "equal temperatures": lambda: exact(t),
        "unequal temperatures": lambda: exact(u),
    }


def jax_steps() -> dict[str, Callable[[], object]]:
    """The same steps in JAX, compiled."""
    import jax
    from numpyro.distributions import kl_divergence

    from relaxed_dists.numpyro import RelaxedOneHotCategorical as Relaxed

    logits, other = (jax.random.normal(jax.random.key(i), SHAPE) for i in range(2))
    key = jax.random.key(2)

    def draw(x: object, z: object, t: object, u: object) -> object:
        return Relaxed(t, logits=x).sample(key).sum()

    def sampled(x: object, z: object, t: object, u: object) -> object:
        q, p = Relaxed(t, logits=x), Relaxed(u, logits=z)
        value = q.sample(key)
        return value.sum() + (q.log_prob(value) - p.log_prob(value)).sum()

    def exact(x: object, z: object, t: object, u: object) -> object:
        return kl_divergence(Relaxed(t, logits=x), Relaxed(u, logits=z)).sum()

    compiled = {f: jax.jit(jax.value_and_grad(f, (0, 1))) for f in (draw, sampled, exact)}

    def run(f: Callable[..., object], u: float) -> Callable[[], object]:
        return lambda: jax.block_until_ready(compiled[f](logits, other, T, u))

    return {
        "draw": run(draw, U),
        "sampled": run(sampled, U),
        "equal temperatures": run(exact, T),
        "unequal temperatures": run(exact, U),
    }


def medians(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median milliseconds of each step on the processor; a round runs every step once."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # compiles
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.process_time()
            step()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> int:
    """Print the table, and return the number of missed goals."""
    table = Table(title=f"Exact KL, float32, {SHAPE}, medians of {ROUNDS} interleaved rounds")
    for column in ("framework", "KL", "ms", "sampled KL's ms", "ratio", "goal"):
        table.add_column(column)
    missed = 0
    for framework, steps in (("Pyro", torch_steps()), ("NumPyro", jax_steps())):
        times = medians(steps)
        replaced = times["sampled"] - times["draw"]
        for name, goal in GOALS.items():
            ratio = times[name] / replaced
            missed += ratio > goal
            numbers = (f"{times[name]:.2f}", f"{replaced:.2f}", f"{ratio:.1f}", f"{goal:.0f}")
            table.add_row(framework, name, *numbers)
    Console().print(table)
    return missed


if __name__ == "__main__":
    sys.exit(main())
