"""The subjects timed in torch: ours, torch's own distributions and functions, and Pyro's."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch import distributions as torchs
from torch.nn.functional import gumbel_softmax

from benchmarks.speed import bench_svi
from benchmarks.speed.bench_report import SHAPES, SUBSETS, subset_name
from relaxed_dists import pyro as ours
from relaxed_dists.torch import gumbel_softmax as our_gumbel_softmax

T = 0.5
Step = Callable[[], object]
Cases = dict[str, dict[str, Step]]  # by operation and subject: what is timed
Make = Callable[[Tensor], Any]  # a distribution of these logits


def backward(function: Callable[[Tensor], Tensor], logits: Tensor, weights: Tensor) -> Step:
    """A step that draws, and differentiates a linear function of the draw by the logits."""
    return gradient(lambda x: (function(x) * weights).sum(), logits)


def elbo_term(make: Make, weights: Tensor) -> Callable[[Tensor], Tensor]:
    """A function of logits: a linear function of a draw, plus the log density of the draw."""

    def term(logits: Tensor) -> Tensor:
        d = make(logits)
        z = d.rsample()
        return (z * weights).sum() + d.log_prob(z).sum()

    return term


def gradient(term: Callable[[Tensor], Tensor], logits: Tensor) -> Step:
    """A step to the gradient of a function."""

    def step() -> object:
        logits.grad = None
        term(logits).backward()  # accumulates into logits.grad, as in a training
        return logits.grad

    return step


def mass(make: Make, logits: Tensor) -> Step:
    """A step that draws from a discrete distribution, and scores the draw."""

    def step() -> object:
        d = make(logits)
        z = d.sample()
        d.log_prob(z)
        return z

    return step


def same_density(one: Any, other: Any, logits: Tensor, categories: int) -> None:
    """Check that two distributions agree, at points where float32 computes both precisely.

    Raises:
        AssertionError: If their densities differ.
    """
    x = 0.9 * one(logits).sample() + 0.1 / categories  # a copy, away from the ends
    p, q = (d(logits).log_prob(x) for d in (one, other))
    torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5 * categories * (1 + categories) ** 0.5)


def numbers(outcome: Any) -> Any:
    """The result of a step, in NumPy."""
    return outcome.detach().numpy()


def relaxed(module: Any, name: str) -> Make:
    """A function to a relaxed distribution; ours checks its arguments."""
    cls, t = getattr(module, name), torch.tensor(T)
    options = {} if module is ours else {"validate_args": False}
    return lambda x: cls(t, logits=x, **options)


def numbers_of(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the same as a leaf, and weights."""
    torch.manual_seed(0)
    logits, weights = (torch.randn(shape[-1]).repeat(*shape[:-1], 1) for _ in range(2))
    return logits, logits.clone().requires_grad_(), weights


def of_shape(shape: tuple[int, ...]) -> Cases:
    """The cases of a shape."""
    logits, leaf, weights = numbers_of(shape)
    one_hot, binary = "RelaxedOneHotCategorical", "RelaxedBernoulli"
    soft = {"ours": relaxed(ours, one_hot), "torch": relaxed(torchs, one_hot)}
    same_density(soft["torch"], soft["ours"], logits, shape[-1])
    same_density(relaxed(torchs, binary), relaxed(ours, binary), logits, 2)

    draws = {k: lambda make=make: make(logits).rsample() for k, make in soft.items()}
    found: Cases = {"draw": draws | {"torch.rand": lambda: torch.rand(shape)}}
    for operation, peer, module, name in (
        ("ELBO term", "torch", torchs, one_hot),
        ("hard ELBO term", "Pyro", dist, f"{one_hot}StraightThrough"),
        ("binary ELBO term", "torch", torchs, binary),
        ("binary hard ELBO term", "Pyro", dist, f"{binary}StraightThrough"),
    ):
        found[operation] = {
            subject: gradient(elbo_term(relaxed(of, name), weights), leaf)
            for subject, of in (("ours", ours), (peer, module))
        }
    # What is not the distribution's: the weighted sum, the sum of the densities and the way back.
    free = elbo_term(lambda x: bench_svi.Free(x, x), weights)
    found["ELBO term"]["free"] = gradient(free, leaf)
    functions = {"ours": our_gumbel_softmax, "F.gumbel_softmax": gumbel_softmax}
    for hard in (False, True):
        operation = "gumbel_softmax" + ", hard" * hard
        softmaxes = {k: partial(function, tau=T, hard=hard) for k, function in functions.items()}
        found[operation] = {k: partial(function, logits) for k, function in softmaxes.items()}
        back = {k: backward(function, leaf, weights) for k, function in softmaxes.items()}
        found[f"{operation}, and back"] = back
    estimator = ours.GumbelSoftmax(torch.tensor(T))
    found["OneHotCategorical, and back"] = {
        "ours": backward(
            lambda x: ours.OneHotCategorical(logits=x, estimator=estimator).rsample(), leaf, weights
        ),
        "F.gumbel_softmax": back["F.gumbel_softmax"],  # the hard one
    }
    found["plain draw and mass"] = {
        "ours": mass(lambda x: ours.OneHotCategorical(logits=x), logits),
        "Pyro": mass(lambda x: dist.OneHotCategorical(logits=x, validate_args=False), logits),
    }
    return found


def subsets() -> Cases:
    """Relaxed subsets and their gradient, by our class and by the loop of Xie and Ermon (2019)."""

    def loop(x: Tensor, k: int) -> Tensor:
        scores, total, a = x + dist.Gumbel(0.0, 1.0).sample(x.shape), 0.0, torch.zeros_like(x)
        for _ in range(k):
            scores = scores + torch.log((1 - a).clamp(min=1e-20))
            a = torch.softmax(scores / T, -1)
            total = total + a
        return total

    torch.manual_seed(0)
    found: Cases = {}
    for rows, categories, k in SUBSETS:
        leaf = torch.randn(categories).repeat(rows, 1).requires_grad_()
        weights = torch.randn(categories)
        found[subset_name((rows, categories, k))] = {
            "the paper's loop": gradient(lambda x, k=k, w=weights: (loop(x, k) * w).sum(), leaf),
            "ours": gradient(
                lambda x, k=k, w=weights: (ours.RelaxedSubset(T, k, logits=x).rsample() * w).sum(),
                leaf,
            ),
        }
    return found


def compiled(shape: tuple[int, ...]) -> Cases:
    """The ELBO term of ours and of torch's class under torch.compile, without a graph break."""
    _, leaf, weights = numbers_of(shape)
    torch._dynamo.reset()
    terms = {
        subject: elbo_term(relaxed(module, "RelaxedOneHotCategorical"), weights)
        for subject, module in (("ours", ours), ("torch", torchs))
    }
    return {
        "compiled ELBO term": {
            subject: gradient(torch.compile(term, fullgraph=True), leaf)
            for subject, term in terms.items()
        }
    }


def cases() -> Iterator[tuple[tuple[int, ...], Cases]]:
    """All shapes with their cases, made when it is their turn."""
    torch.set_num_threads(1)
    yield (
        SHAPES[1],
        {"SVI step": bench_svi.steps(), **subsets()},
    )  # SVI's latent variables have this shape
    for shape in SHAPES:
        yield shape, of_shape(shape)
    for shape in SHAPES[1:3]:  # last, since torch.compile switches torch's validation off
        yield shape, compiled(shape)
