"""The subjects timed in torch: ours, torch's own distributions, Pyro's, and two limits."""

import contextlib
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import gumbel_softmax

from benchmarks.speed import fused
from relaxed_dists import pyro as ours

T = 0.5
Step = Callable[[], object]
Cases = dict[str, dict[str, Step]]  # by operation and subject: what is timed


def drawn(make: Callable[[Tensor], Any], logits: Tensor) -> Step:
    """A step that makes a distribution and draws from it."""
    return lambda: make(logits).rsample()


def backward(make: Callable[[Tensor], Any], logits: Tensor, weights: Tensor) -> Step:
    """A step that draws, and differentiates a function of the draw by the logits."""
    return gradient(lambda x: (make(x).rsample() * weights).sum(), logits)


def elbo_term(make: Callable[[Tensor], Any], weights: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of logits: a linear function of a draw, plus the log density of the draw."""

    def term(logits: Tensor) -> Tensor:
        d = make(logits)
        z = d.rsample()
        return (z * weights).sum() + d.log_prob(z).sum()

    return term


def gradient(term: Callable[[Tensor], Tensor], logits: Tensor) -> Step:
    """A step to the gradient of a function; None if the distribution refuses its own draw."""

    def step() -> object:
        # torch's and Pyro's validation refuses draws that rounding moves off the simplex, with
        # many categories or at low temperatures.
        with contextlib.suppress(ValueError):
            logits.grad = None
            term(logits).backward()  # accumulates into logits.grad, as in a training
            return logits.grad
        return None

    return step


def same_density(one: Any, other: Any, logits: Tensor, categories: int) -> None:
    """Check that two distributions agree, at points where float32 computes both precisely.

    Raises:
        AssertionError: If their densities differ.
    """
    x = 0.9 * one(logits).sample() + 0.1 / categories  # a copy, away from the ends
    p, q = (d(logits).log_prob(x) for d in (one, other))
    torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5 * categories * (1 + categories) ** 0.5)


def finished(step: Step) -> Step:
    """The step, waiting for the GPU to be done."""
    return lambda: (step(), torch.cuda.synchronize())[0]


def numbers(outcome: Any) -> Any:
    """The result of a step, in NumPy."""
    outcome = outcome[0] if isinstance(outcome, tuple) else outcome
    return outcome.detach().cpu().numpy() if isinstance(outcome, Tensor) else outcome


def cases(shape: tuple[int, ...]) -> Cases:
    """All cases of a shape; the others must agree with the first subject of an operation."""
    torch.manual_seed(0)
    logits, weights = (torch.randn(shape[-1]).repeat(*shape[:-1], 1) for _ in range(2))
    t = torch.tensor(T)
    leaf = logits.clone().requires_grad_()
    name = "RelaxedOneHotCategorical"
    soft: dict[str, Callable[[Tensor], Any]] = {
        "torch": lambda x: getattr(dist, name)(t, logits=x, validate_args=False),
        "torch, validating": lambda x: getattr(dist, name)(t, logits=x),
        "ours": lambda x: getattr(ours, name)(t, logits=x),
        "ours, not validating": lambda x: getattr(ours, name)(t, logits=x, validate_args=False),
    }
    hard: dict[str, Callable[[Tensor], Any]] = {
        "Pyro": lambda x: dist.RelaxedOneHotCategoricalStraightThrough(
            t, logits=x, validate_args=False
        ),
        "ours": lambda x: ours.RelaxedOneHotCategoricalStraightThrough(t, logits=x),
    }
    binary: dict[str, Callable[[Tensor], Any]] = {
        "torch": lambda x: dist.RelaxedBernoulli(t, logits=x, validate_args=False),
        "ours": lambda x: ours.RelaxedBernoulli(t, logits=x),
    }
    same_density(soft["torch"], soft["ours"], logits, shape[-1])
    same_density(binary["torch"], binary["ours"], logits, 2)

    found: Cases = {
        "construct": {k: (lambda make=make: make(logits)) for k, make in soft.items()},
        "forward": {k: drawn(make, logits) for k, make in soft.items()},
        "forward and backward": {k: backward(make, leaf, weights) for k, make in soft.items()},
        "ELBO term": {k: gradient(elbo_term(make, weights), leaf) for k, make in soft.items()},
        "hard, forward": {k: drawn(make, logits) for k, make in hard.items()},
        "hard, forward and backward": {
            k: backward(make, leaf, weights) for k, make in hard.items()
        },
        "hard, ELBO term": {
            k: gradient(elbo_term(make, weights), leaf) for k, make in hard.items()
        },
        "binary, forward": {k: drawn(make, logits) for k, make in binary.items()},
        "binary, forward and backward": {
            k: backward(make, leaf, weights) for k, make in binary.items()
        },
        "binary, ELBO term": {
            k: gradient(elbo_term(make, weights), leaf) for k, make in binary.items()
        },
    }
    found["forward"]["F.gumbel_softmax"] = lambda: gumbel_softmax(logits, T)
    found["forward"]["limit: a uniform draw"] = lambda: torch.rand(shape).add_(logits)
    if (loop := fused.loop()) and logits.device.type == "cpu":
        out = torch.empty_like(logits)
        found["forward"]["limit: a fused loop"] = lambda: loop(logits, out, T)  # on one thread
    found["hard, forward"]["F.gumbel_softmax"] = lambda: gumbel_softmax(logits, T, hard=True)
    for kind, hard_too in (("", False), ("hard, ", True)):
        found[f"{kind}forward and backward"]["F.gumbel_softmax"] = gradient(
            lambda x, hard_too=hard_too: (gumbel_softmax(x, T, hard=hard_too) * weights).sum(), leaf
        )
    return found


def compiled(shape: tuple[int, ...]) -> Cases:
    """The ELBO term of torch's class and of ours under torch.compile, without a graph break."""
    torch.manual_seed(0)
    leaf, weights = (torch.randn(shape[-1]).repeat(*shape[:-1], 1) for _ in range(2))
    leaf.requires_grad_()
    t = torch.tensor(T)

    def theirs(x: Tensor) -> Any:
        return dist.RelaxedOneHotCategorical(t, logits=x, validate_args=False)

    def mine(x: Tensor) -> Any:
        return ours.RelaxedOneHotCategorical(t, logits=x)

    torch._dynamo.reset()
    steps = {
        name: gradient(torch.compile(elbo_term(make, weights), fullgraph=True), leaf)
        for name, make in (("torch", theirs), ("ours", mine))
    }
    return {"compiled ELBO term": steps}
