"""The grid: checks of every draw, whose failures are counted for each distribution and backend."""

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.torture.subjects import Subject

CHECKS = {
    "log_prob": "own draws without a finite log_prob",
    "gradient": "gradients not finite",
    "validation": "own draws refused",
    "copy": "copies without a finite log_prob",
}
SCALES = (0, 1, 10, 50)


@dataclass(frozen=True)
class Size:
    """How much of the grid to run: temperatures for each number of categories, and draws."""

    temperatures: dict[int, tuple[float, ...]]
    compiled: tuple[int, ...]  # the numbers of categories that are also compiled
    dtypes: tuple[str, ...]
    draws: int  # for each scale of the logits


_ALL = (1e-3, 0.01, 0.05, 0.1, 0.5, 2 / 3, 1.0, 10.0)
FULL = Size(
    dict.fromkeys((1, 2, 3, 10, 100, 1000), _ALL) | {50257: (0.01, 0.5, 1.0)},
    compiled=(10,),
    dtypes=("float32", "float64", "bfloat16", "float16"),
    draws=64,
)
# accuracy.py has as many rows in its quick part, so that JAX compiles for one shape only.
QUICK = Size({10: (1e-3, 0.1, 10.0)}, (), ("float32", "float16"), draws=12)


@dataclass
class Counts:
    """The numbers of cases and of failures of each check."""

    failed: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)

    def add(self, check: str, failed: Any) -> None:
        """Count an array of cases, which is true where a case failed."""
        failed = np.asarray(failed)
        self.cases[check] += failed.size
        self.failed[check] += int(failed.sum())


class Torch:
    """All that the grid needs of torch."""

    def precision(self, dtype: str) -> contextlib.AbstractContextManager[Any]:
        """An empty context: torch needs no setting for float64."""
        return contextlib.nullcontext()

    def array(self, x: Any, dtype: str) -> Any:
        """x as a tensor."""
        import torch

        return torch.as_tensor(np.asarray(x)).to(getattr(torch, dtype))

    def numpy(self, x: Any) -> np.ndarray:
        """The tensor's numbers."""
        return x.detach().double().numpy()

    def draw(self, d: Any, seed: int) -> Any:
        """A draw without a gradient."""
        import torch

        torch.manual_seed(seed)
        return d.sample()

    def accepts(self, d: Any, value: Any) -> np.ndarray:
        """Whether the distribution's support accepts each value."""
        return d.support.check(value).numpy()

    def run(self, subject: Subject, compiled: bool) -> Callable[..., list[np.ndarray]]:
        """A function to the densities of a draw and of a detached draw, and their gradients."""
        import torch

        def forward(t: Any, logits: Any, weights: Any) -> tuple[Any, ...]:
            d = subject.make(t, logits, False)
            value = d.rsample()
            with torch.no_grad():
                detached = d.sample()
            densities = d.log_prob(value), d.log_prob(detached)
            total = (value * weights).sum() + densities[0].sum() + densities[1].sum()
            return *(x.detach() for x in densities), total

        torch._dynamo.reset()
        called = torch.compile(forward, fullgraph=True) if compiled else forward

        def run(t: Any, logits: Any, weights: Any, seed: int) -> list[np.ndarray]:
            torch.manual_seed(seed)
            leaves = [x.clone().requires_grad_() for x in (t, logits)]
            *densities, total = called(*leaves, weights)
            gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
            return [self.numpy(x) for x in (*densities, *gradients)]

        return run

    def score(self, subject: Subject, t: Any, logits: Any, value: Any) -> list[np.ndarray]:
        """The density of a value, and its gradients by temperature and logits."""
        import torch

        leaves = [x.clone().requires_grad_() for x in (t, logits)]
        density = subject.make(*leaves, False).log_prob(value)
        gradients = torch.autograd.grad(density.sum(), leaves)
        return [self.numpy(x) for x in (density, *gradients)]


class Jax:
    """All that the grid needs of JAX."""

    def precision(self, dtype: str) -> contextlib.AbstractContextManager[Any]:
        """Enable float64, which JAX turns into float32 otherwise."""
        import jax

        return jax.enable_x64(dtype == "float64")

    def array(self, x: Any, dtype: str) -> Any:
        """x as a JAX array."""
        import jax.numpy as jnp

        return jnp.asarray(np.asarray(x), dtype)

    def numpy(self, x: Any) -> np.ndarray:
        """The array's numbers."""
        return np.asarray(x, np.float64)

    def draw(self, d: Any, seed: int) -> Any:
        """A draw."""
        import jax

        return _sample(d, jax.random.key(seed))

    def accepts(self, d: Any, value: Any) -> np.ndarray:
        """Whether the distribution's support accepts each value."""
        return np.asarray(d.support(value))

    def run(self, subject: Subject, compiled: bool) -> Callable[..., list[np.ndarray]]:
        """A function to the densities of a draw and of a detached draw, and their gradients."""
        import jax

        def forward(t: Any, logits: Any, weights: Any, key: Any) -> list[Any]:
            first, second = jax.random.split(key)
            detached = _sample(subject.make(t, logits, False), second)

            def total(t: Any, logits: Any) -> tuple[Any, list[Any]]:
                d = subject.make(t, logits, False)
                value = _sample(d, first)
                densities = [d.log_prob(value), d.log_prob(detached)]
                return (value * weights).sum() + sum(x.sum() for x in densities), densities

            gradients, densities = jax.grad(total, (0, 1), has_aux=True)(t, logits)
            return [*densities, *gradients]

        called = jax.jit(forward) if compiled else forward

        def run(t: Any, logits: Any, weights: Any, seed: int) -> list[np.ndarray]:
            return [self.numpy(x) for x in called(t, logits, weights, jax.random.key(seed))]

        return run

    def score(self, subject: Subject, t: Any, logits: Any, value: Any) -> list[np.ndarray]:
        """The density of a value, and its gradients by temperature and logits."""
        import jax

        def total(t: Any, logits: Any) -> tuple[Any, Any]:
            density = subject.make(t, logits, False).log_prob(value)
            return density.sum(), density

        gradients, density = jax.grad(total, (0, 1), has_aux=True)(t, logits)
        return [self.numpy(x) for x in (density, *gradients)]


def _sample(d: Any, key: Any) -> Any:
    return d.sample(seed=key) if "tensorflow_prob" in type(d).__module__ else d.sample(key)


FRAMEWORKS: dict[str, type[Torch] | type[Jax]] = {"pyro": Torch, "numpyro": Jax}


def _points(subject: Subject, size: Size) -> Iterator[tuple[int, tuple[float, ...], np.ndarray]]:
    """Numbers of categories, their temperatures, and logits of all scales, a row for each draw."""
    for k, temperatures in size.temperatures.items():
        if not (subject.one_hot or k == 10):
            continue
        draws = max(2, min(size.draws, 2**15 // k))
        shape = (len(SCALES), draws, k) if subject.one_hot else (len(SCALES), size.draws * 4)
        logits = np.random.default_rng(k).normal(size=shape)
        logits = logits * np.reshape(SCALES, (-1,) + (1,) * (len(shape) - 1))
        yield k, temperatures, logits.reshape(-1, *shape[2:])


def count(subject: Subject, size: Size, compiled: bool) -> Counts:
    """Run a subject over the grid."""
    framework, counts = FRAMEWORKS[subject.backend](), Counts()
    for dtype in size.dtypes:
        for k, temperatures, logits in _points(subject, size):
            if compiled and k not in size.compiled:
                continue
            with framework.precision(dtype), warnings.catch_warnings():
                if not subject.ours:
                    warnings.simplefilter("ignore")
                run = framework.run(subject, compiled)
                rows = framework.array(logits, dtype)
                for seed, t in enumerate(temperatures):
                    temperature = framework.array(t, dtype)
                    _differentiate(framework, counts, run, temperature, rows, dtype, seed)
                    if not compiled:
                        _score(framework, counts, subject, temperature, rows, dtype, seed)
    return counts


def _differentiate(
    framework: Any, counts: Counts, run: Any, t: Any, logits: Any, dtype: str, seed: int
) -> None:
    """Check that the densities of own draws and the gradients are finite."""
    weights = framework.array(np.random.default_rng(seed).normal(size=logits.shape), dtype)
    try:
        *densities, t_gradient, gradient = run(t, logits, weights, seed)
    except Exception:
        counts.add("log_prob", np.ones(2 * len(logits)))
        counts.add("gradient", np.ones(len(logits) + 1))
        return
    counts.add("log_prob", ~np.isfinite(np.stack(densities)))
    bad = [~np.isfinite(t_gradient), ~np.isfinite(gradient)]
    if dtype == "float16" and any(x.any() for x in bad):
        # Not a failure where the gradient, computed in float32, is beyond float16's range.
        wide = [framework.array(framework.numpy(x), "float32") for x in (t, logits, weights)]
        exact = run(*wide, seed)[2:]
        bad = [x & ~(np.isfinite(e) & (abs(e) > 65000)) for x, e in zip(bad, exact, strict=True)]
    rows = bad[1].reshape(len(logits), -1).any(-1)
    counts.add("gradient", np.append(rows, bad[0]))


def _score(
    framework: Any, counts: Counts, subject: Subject, t: Any, logits: Any, dtype: str, seed: int
) -> None:
    """Check own draws under validation, and copies made of their numbers alone."""
    try:
        d = subject.make(t, logits, True)
        value = framework.draw(d, seed)
    except Exception:
        counts.add("validation", np.ones(len(logits)))
        counts.add("copy", np.ones(len(logits)))
        return
    if hasattr(d, "support"):  # TFP's have no support, and refuse all of a batch
        refused = np.zeros(len(logits), bool)
        try:
            d.log_prob(value)
        except Exception:
            refused = refused | subject.ours | ~framework.accepts(d, value)
        counts.add("validation", refused)
    copy = framework.array(framework.numpy(value), dtype)
    try:
        density = framework.numpy(subject.make(t, logits, False).log_prob(copy))
        counts.add("copy", ~np.isfinite(density))
    except ValueError as error:
        named = subject.hard and "has lost the relaxed sample behind it" in str(error)
        counts.add("copy", np.full(len(logits), not named))
    except Exception:
        counts.add("copy", np.ones(len(logits)))
