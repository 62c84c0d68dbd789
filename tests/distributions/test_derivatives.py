"""First and second derivatives of all results, in both frameworks, against differences in float64.

A distribution's results are added up, each entry with its own weight, to one function of
its logits and temperatures, of those of another distribution, and of a value. First derivatives are
compared with differences of that function, second ones with differences of the first, along random
directions that mix all of these arguments.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cases import DISCRETE, RELAXED, STRAIGHT_THROUGH
from harness import Backend

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")

Function = Callable[..., Any]  # of logits, temperature, another's both, and unconstrained numbers
Point = list[np.ndarray]

ROWS, K = 2, 3
# Temperatures of the rows, and of the other distribution: equal, shared by all rows, or neither.
TEMPERATURES = {
    "equal": ([0.5, 0.5], [0.5, 0.5]),
    "shared": ([0.6, 0.6], [0.8, 0.8]),
    "rows": ([0.5, 1.3], [0.8, 0.5]),
}
NAMES = [*RELAXED, *DISCRETE, "HardConcrete", "Subset", "RelaxedSubset", "RelaxedPermutation"]
NO_ENTROPY = [*STRAIGHT_THROUGH, "RelaxedSubset", "RelaxedPermutation"]
NO_KL = [*NO_ENTROPY, "Subset"]
# The moments, entropies and KL of these distributions are integrals, whose derivatives JAX takes
# long to compile. In JAX they have their own test, and those of the KL are in test_cases_d.
INTEGRALS = RELAXED[:4]
SAME_KL = ["ExpRelaxedOneHotCategorical", "LogitRelaxedBernoulli"]  # equals the KL on the simplex
MOMENT = {"RelaxedOneHotCategorical": "variance", "RelaxedBernoulli": "mean"}
NO_MOMENTS = ["RelaxedSubset", "RelaxedPermutation"]


def made(backend: Backend, name: str, logits: Any, t: Any, estimator: Any = None) -> Any:
    """The distribution of a name. A permutation's matrices are made from the rows of logits."""
    cls = getattr(backend.names, name)
    if name == "RelaxedPermutation":
        return cls(t, logits[:, :, None] * logits[:, None, :], iterations=3)
    more: dict[str, Any] = {"k": 2} if "Subset" in name else {}
    if name in RELAXED or name in ("HardConcrete", "RelaxedSubset"):
        more["temperature"] = t
    elif estimator is not None:
        more["estimator"] = estimator
    return cls(logits=logits, **more)


def on_support(backend: Backend, name: str, u: Any) -> Any:
    """The value of the distribution that unconstrained numbers are mapped to."""
    ops = backend.private.ops
    if name in ("LogitRelaxedBernoulli", "HardConcrete", "RelaxedBernoulli"):
        return u if name.startswith("Logit") else ops.exp(-ops.softplus(-u))
    if name in ("ExpRelaxedOneHotCategorical", "RelaxedOneHotCategorical"):
        return ops.log_softmax(u) if name.startswith("Exp") else ops.exp(ops.log_softmax(u))
    return None


def weighted(backend: Backend, terms: list[Any]) -> Any:
    """The sum of all entries, each times its own weight."""
    total = 0.0
    for i, term in enumerate(terms):
        weights = np.cos(i + np.arange(np.prod(term.shape))).reshape(term.shape)
        total = total + (term * backend.array(weights)).sum()
    return total


def integrals(backend: Backend, name: str, whole: bool = True) -> Function:
    """The sum of the named distribution's entropy and moments; if not whole, of one moment."""

    def total(logits: Any, t: Any, other: Any, other_t: Any, u: Any) -> Any:
        distribution = made(backend, name, logits, t)
        terms = [distribution.entropy()]
        if name not in SAME_KL:  # log space has its own test of them
            moments = ["mean", "variance"] if whole else [MOMENT[name]]
            terms += [getattr(distribution, moment) for moment in moments]
        return weighted(backend, terms)

    return total


def quantities(backend: Backend, name: str, seed: int, whole: bool = True) -> Function:
    """The sum of all results of a distribution, without integrals if not `whole`."""

    def total(logits: Any, t: Any, other: Any, other_t: Any, u: Any) -> Any:
        law, names = made(backend, name, logits, t), backend.names
        terms, value = [], on_support(backend, name, u)
        if value is not None:
            terms.append(law.log_prob(value))
            if "Bernoulli" in name or name == "HardConcrete":
                terms.append(law.cdf(value))
        if law.has_rsample:
            x = backend.draw(law, seed)
            terms += [] if name in STRAIGHT_THROUGH else [x]
            # The gradient of HardConcrete's density at a draw has a term for its point masses,
            # which differences at fixed noise don't have.
            if name not in [*NO_MOMENTS, "HardConcrete"]:
                terms.append(law.log_prob(x))
        elif name in DISCRETE:
            soft = names.GumbelSoftmax(t, hard=False)
            soft_law = made(backend, name, logits, t, soft)
            x = backend.draw(soft_law, seed)
            terms += [x, soft_law.log_prob(x)]
        else:
            terms.append(law.log_prob(backend.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])))
        if not whole:
            return weighted(backend, terms)
        if name not in NO_ENTROPY:
            terms.append(law.entropy())
        if name not in NO_MOMENTS:
            terms += [law.mean, law.variance]
        if name not in [*NO_KL, *SAME_KL]:
            terms.append(backend.divergence(law, made(backend, name, other, other_t)))
        return weighted(backend, terms)

    return total


class Derivatives:
    """A function's value and gradient, and its derivatives along a direction.

    Args:
        backend: The framework.
        f: The function.
        once: Whether to compute the second derivative only in forward mode of reverse mode.
    """

    def __init__(self, backend: Backend, f: Function, once: bool = False) -> None:
        self._backend, self._f = backend, f
        self._first: Any = self._torch_first
        self._second: Any = self._torch_second
        if backend.framework == "numpyro":
            import jax

            def first(point: Any) -> Any:
                return jax.value_and_grad(lambda point: f(*point))(point)

            def second(point: Any, d: Any) -> Any:
                if once:
                    return jax.jvp(first, (point,), (d,))[1]

                def along(point: Any) -> Any:
                    return jax.jvp(lambda *point: f(*point), point, d)[1]

                gradient = jax.grad(lambda point: f(*point))
                return (
                    along(point),
                    jax.jvp(gradient, (point,), (d,))[1],
                    jax.grad(along)(point),
                )

            self._first, self._second = jax.jit(first), jax.jit(second)

    def _torch_first(self, point: Any) -> Any:
        import torch

        leaves = [x.clone().requires_grad_() for x in point]
        value = self._f(*leaves)
        return value, torch.autograd.grad(value, leaves, materialize_grads=True)

    def _torch_second(self, point: Any, d: Any) -> Any:
        import torch

        everything = tuple(range(len(point)))
        gradient = torch.func.grad(self._f, everything)

        def along(*point: Any) -> Any:
            return torch.func.jvp(self._f, point, d)[1]

        leaves = [x.clone().requires_grad_() for x in point]
        first = torch.autograd.grad(
            self._f(*leaves), leaves, create_graph=True, materialize_grads=True
        )
        both = sum((a * b).sum() for a, b in zip(first, d, strict=True))
        return (
            along(*point),
            torch.func.jvp(gradient, point, d)[1],
            torch.func.grad(along, everything)(*point),
            torch.autograd.grad(both, leaves, materialize_grads=True),
        )

    def _arrays(self, point: Point) -> Any:
        return tuple(self._backend.array(x) for x in point)

    def first(self, point: Point) -> tuple[float, np.ndarray]:
        """The value and the gradient, as one vector."""
        value, gradient = self._first(self._arrays(point))
        return float(self._backend.numpy(value)), self._flat(gradient)

    def second(self, point: Point, d: Point) -> list[np.ndarray]:
        """The first derivative along a direction, in forward mode, and the second in several modes.

        The modes are forward over reverse, reverse over forward, and, in torch, reverse twice.
        """
        first, *others = self._second(self._arrays(point), self._arrays(d))
        return [self._backend.numpy(first), *(self._flat(x) for x in others)]

    def _flat(self, arrays: Any) -> np.ndarray:
        return np.concatenate([self._backend.numpy(x).ravel() for x in arrays])


def along(f: Callable[[Point], Any], point: Point, d: Point, h: float = 2e-3) -> np.ndarray:
    """The derivative by central differences, extrapolated to remove the error in h^2."""

    def difference(h: float) -> np.ndarray:
        sides = [f([x + s * h * y for x, y in zip(point, d, strict=True)]) for s in (1, -1)]
        return np.asarray((sides[0] - sides[1]) / (2 * h))

    return (4 * difference(h / 2) - difference(h)) / 3


def check(f: Derivatives, points: list[Point], directions: list[Point], away: float = 0.0) -> None:
    """Check derivatives against differences at points moved by `away`, to 1e-6 of the largest."""
    for point in points:
        there = [x + away for x in point]
        gradient = f.first(point)[1]
        scale = 1e-6 * (1 + np.abs(gradient).max())
        for d in directions:
            whole = np.concatenate([x.ravel() for x in d])
            first, *second = along(lambda p: np.hstack(f.first(p)), there, d)
            np.testing.assert_allclose(gradient @ whole, first, 0, scale)
            forward, *others = f.second(point, d)
            np.testing.assert_allclose(forward, first, 0, scale)
            for found in others:
                np.testing.assert_allclose(found, second, 0, 10 * scale)


def case(name: str, seed: int, number: int = 1) -> tuple[list[Point], list[Point]]:
    """Random points at all temperatures, and random directions."""
    rng = np.random.default_rng(seed)
    shape = (ROWS,) if "Bernoulli" in name or name == "HardConcrete" else (ROWS, K)
    logits, other, u = rng.normal(0, 0.7, (3, *shape))
    points = [
        [logits, np.array(t), other, np.array(other_t), u] for t, other_t in TEMPERATURES.values()
    ]
    directions = [[rng.normal(0, 1, x.shape) for x in points[0]] for _ in range(number)]
    return points, directions


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(backend: Backend, name: str, seed: int, whole: bool) -> None:
    """First and second derivatives by all arguments are right, in forward and reverse mode.

    With --whole, JAX also runs the integrals, and every order of two modes for gates and subsets,
    and Pyro runs the integrals at all temperatures. Otherwise Pyro leaves out the equal ones for
    categories, and the shared ones for bits.
    """
    all_of_it = whole or backend.framework == "pyro" or name not in INTEGRALS
    once = backend.framework == "numpyro" and name in ("HardConcrete", "Subset") and not whole
    function = quantities(backend, name, seed, all_of_it)
    points, directions = case(name, seed)
    if backend.framework == "pyro" and name in INTEGRALS and not whole:
        del points[INTEGRALS.index(name) // 2]
    check(Derivatives(backend, function, once), points, directions)


@pytest.mark.parametrize("backend", ["numpyro"], indirect=True)
@pytest.mark.parametrize("name", INTEGRALS)
def test_derivatives_of_integrals(backend: Backend, name: str, seed: int, whole: bool) -> None:
    """In JAX, entropy and moments have right first derivatives in two modes, and second ones.

    Categories have their variance tested and bits their mean; --whole tests both of both.
    """
    check(Derivatives(backend, integrals(backend, name, whole), once=True), *case(name, seed))


@pytest.mark.parametrize("wrong", ["another point", "logits", "temperature", "value"])
def test_a_wrong_derivative_fails(backend: Backend, wrong: str, seed: int) -> None:
    """The check fails at another point, and if an argument has no derivative."""
    name = "LogitRelaxedBernoulli"
    f, stop = quantities(backend, name, seed), backend.private.ops.stop_gradient
    points, directions = case(name, seed)
    check(Derivatives(backend, f), points[2:], directions)
    if wrong == "another point":
        with pytest.raises(AssertionError):
            check(Derivatives(backend, f), points[2:], directions, away=0.1)
        return
    index = {"logits": 0, "temperature": 1, "value": 4}[wrong]

    def planted(*point: Any) -> Any:
        return f(*(stop(x) if i == index else x for i, x in enumerate(point)))

    with pytest.raises(AssertionError):
        check(Derivatives(backend, planted), points[2:], directions)
