"""Exact properties of all distributions, in float64: change of variables, permutation, shifts."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from cases import CASES, DISCRETE, RELAXED, Case, parameters, values
from harness import Backend
from numpy_ops import NumpyOps
from relaxed_dists._distributions import bernoulli, one_hot
from relaxed_dists._distributions.estimators import GumbelSoftmax, StraightThrough

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
row_cases = pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
ESTIMATORS = [StraightThrough(), GumbelSoftmax(0.5), GumbelSoftmax(0.5, hard=False)]
ROWS = ["ExpRelaxedOneHotCategorical", "RelaxedOneHotCategorical", "OneHotCategorical"]
N = 8  # the batch size: large, since each example has a cost in JAX
fewer = settings(max_examples=settings.default.max_examples // 3)


def examples(check: Callable[..., None]) -> Callable[..., None]:
    """Run a check on random seeds, numbers of categories, temperatures and scales of logits."""
    given_these = given(
        seed=st.integers(0, 10**6),
        k=st.sampled_from([1, 5]),
        t=st.sampled_from([0.01, 0.1, 0.5, 1.0, 3.0, 10.0]),
        scale=st.sampled_from([0.0, 1.0, 10.0]),
    )
    return fewer(given_these(check))


def make(backend: Backend, name: str, t: Any, logits: Any) -> Any:
    """A relaxed or discrete distribution, from arrays of NumPy or of the framework."""
    t, logits = (backend.array(x) if isinstance(x, np.ndarray | float) else x for x in (t, logits))
    arguments = (t,) if name in RELAXED else ()
    return getattr(backend.names, name)(*arguments, logits=logits)


def log_prob(backend: Backend, name: str, t: Any, logits: Any, value: np.ndarray) -> np.ndarray:
    """The log density of values from their numbers."""
    arrays = (backend.array(x) for x in (t, logits, value))
    return backend.numpy(density(type(backend), name)(*arrays))


@functools.cache
def density(backend: type[Backend], name: str) -> Callable[..., Any]:
    """The log density of a distribution, in JAX compiled once for each shape."""
    made = backend()
    return made.compiled(lambda t, logits, value: make(made, name, t, logits).log_prob(value))


@functools.cache
def total(backend: type[Backend], name: str) -> Callable[..., Any]:
    """The sum of the log densities, as a function of logits, value and temperature."""
    made = backend()

    def f(logits: Any, value: Any, t: Any) -> Any:
        return make(made, name, t, logits).log_prob(value).sum()

    return made.compiled(f)


def close(a: Any, b: Any, tolerance: float = 1e-11) -> None:
    """Check that a and b are equal to rounding."""
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("log_case", "case"), [(CASES[0], CASES[1]), (CASES[2], CASES[3])])
def test_change_of_variables(backend: Backend, log_case: Case, case: Case) -> None:
    """The density of x is that of its log (or logit) over the Jacobian; draws correspond too."""

    @examples
    def check(seed: int, k: int, t: float, scale: float) -> None:
        rng = np.random.default_rng(seed)
        logits, x = scale * parameters(rng, case.one_hot, k, (N,)), values(rng, case.name, k, N)
        jacobian = np.log(x).sum(-1) if case.one_hot else np.log(x) + np.log1p(-x)
        there = log_prob(backend, log_case.name, t, logits, case.to_log(x))
        close(log_prob(backend, case.name, t, logits, x), there - jacobian)
        draws = [
            backend.numpy(backend.draw(make(backend, name, t, logits), seed))
            for name in (case.name, log_case.name)
        ]
        close(draws[0], np.exp(draws[1]) if case.one_hot else special.expit(draws[1]))

    check()


def two(x: np.ndarray) -> np.ndarray:
    """Two categories' logits: x and zero."""
    return np.stack([x, np.zeros_like(x)], -1)


@pytest.mark.parametrize(
    ("binary", "rows"),
    [(CASES[2].name, ROWS[0]), (CASES[3].name, ROWS[1]), ("Bernoulli", ROWS[2])],
)
def test_binary_laws_are_those_of_two_categories(backend: Backend, binary: str, rows: str) -> None:
    """Binary densities and gradients are those of two categories at (x, 1 - x), or at its log."""

    @examples
    def check(seed: int, k: int, t: float, scale: float) -> None:
        rng = np.random.default_rng(seed)
        logits, x = scale * parameters(rng, False, k, (N,)), values(rng, binary, 2, N)
        pair = special.log_softmax(two(x), -1) if binary[0] == "L" else np.stack([x, 1 - x], -1)
        found = log_prob(backend, binary, t, logits, x)
        close(found, log_prob(backend, rows, t, two(logits), pair))

        def slope(name: str, logits: np.ndarray, value: np.ndarray) -> np.ndarray:
            x, v, heat = (backend.array(y) for y in (logits, value, t))
            f = total(type(backend), name)
            return backend.grad(lambda x: f(x, v, heat), x)[0]

        close(slope(binary, logits, x), slope(rows, two(logits), pair)[:, 0], 1e-9)

    check()


@examples
def test_binary_draws_are_those_of_two_categories(
    seed: int, k: int, t: float, scale: float
) -> None:
    """A difference of two Gumbel variables, as logistic noise, gives two categories' values."""
    ops, rng = NumpyOps(), np.random.default_rng(seed)
    logits, noise = scale * rng.normal(size=N), rng.gumbel(size=(N, 2))
    logistic, temperature = noise[:, 0] - noise[:, 1], np.full(N, t)
    y = one_hot.concrete(ops, two(logits), temperature, noise)[0]
    close(bernoulli.logit_concrete(ops, logits, temperature, logistic), y[:, 0] - y[:, 1], 1e-9)
    for estimator in ESTIMATORS:
        close(
            estimator.binary(ops, logits, logistic),
            estimator.one_hot(ops, two(logits), noise)[:, 0],
        )


@pytest.mark.parametrize("name", ROWS)
def test_permuting_categories_permutes_everything(backend: Backend, name: str) -> None:
    """Permuted categories have a permuted density, gradient and probabilities."""

    @examples
    def check(seed: int, k: int, t: float, scale: float) -> None:
        rng = np.random.default_rng(seed)
        logits, value = scale * parameters(rng, True, k, (N,)), values(rng, name, k, N)
        order = rng.permutation(k)

        def numbers(logits: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
            distribution = make(backend, name, t, logits)

            x, v, heat = (backend.array(y) for y in (logits, value, t))
            f = total(type(backend), name)
            slopes = backend.grad(lambda x, v: f(x, v, heat), x, v)
            found = log_prob(backend, name, t, logits, value)
            return [found[:, None] + np.zeros(k), backend.numpy(distribution.probs), *slopes]

        ours = numbers(logits[:, order], value[:, order])
        for found, expected in zip(ours, numbers(logits, value), strict=True):
            close(found, expected[:, order], 1e-9)

    check()


def draws(ops: Any, logits: Any, t: Any, gumbel: Any) -> list[Any]:
    """Every value that the shared formulas make of logits and Gumbel noise."""
    relaxed = one_hot.concrete(ops, logits, t, gumbel)[0]
    return [relaxed, *(estimator.one_hot(ops, logits, gumbel) for estimator in ESTIMATORS)]


def binary_draws(ops: Any, logits: Any, t: Any, logistic: Any) -> list[Any]:
    """Every value that the shared formulas make of logits and logistic noise."""
    relaxed = bernoulli.logit_concrete(ops, logits, t, logistic)
    return [relaxed, *(estimator.binary(ops, logits, logistic) for estimator in ESTIMATORS)]


def test_draws_for_the_same_noise(backend: Backend) -> None:
    """Draws of equal noise equal NumPy's, and permute with the categories."""
    numpy_ops, ops = NumpyOps(), backend.private.ops

    @examples
    def check(seed: int, k: int, t: float, scale: float) -> None:
        rng = np.random.default_rng(seed)
        logits, noise = scale * parameters(rng, True, k, (N,)), rng.gumbel(size=(N, k))
        temperature, order = np.full(N, t), rng.permutation(k)
        arrays = (logits, temperature, noise)
        ours = draws(ops, *map(backend.array, arrays))
        permuted = (logits[:, order], temperature, noise[:, order])
        for x, y, z in zip(
            ours, draws(numpy_ops, *arrays), draws(numpy_ops, *permuted), strict=True
        ):
            close(backend.numpy(x), y)
            close(y[:, order], z)
        arrays = (logits[:, 0], temperature, rng.logistic(size=N))
        ours = binary_draws(ops, *map(backend.array, arrays))
        for x, y in zip(ours, binary_draws(numpy_ops, *arrays), strict=True):
            close(backend.numpy(x), y)

    check()


@pytest.mark.parametrize("name", RELAXED + DISCRETE)
def test_draws_are_made_of_their_noise(backend: Backend, name: str) -> None:
    """Draws of the public distributions are the textbook's formulas of their noise."""
    rows = "OneHot" in name
    t, logits = np.linspace(0.3, 4, N), parameters(np.random.default_rng(0), rows, 5, (N,))
    scores = logits + backend.numpy(backend.noise(rows, 7, logits.shape))
    if rows:
        soft, hard = special.softmax(scores / t[:, None], -1), np.eye(5)[scores.argmax(-1)]
    else:
        soft, hard = special.expit(scores / t), (scores > 0).astype(float)
    found = backend.numpy(backend.draw(make(backend, name, t, logits), 7))
    if name.startswith("Exp"):
        close(found, np.log(soft))
    elif name.startswith("Logit"):
        close(found, scores / t)
    else:
        close(found, hard if name in DISCRETE or name.endswith("StraightThrough") else soft)


@pytest.mark.parametrize("name", ROWS)
def test_shifting_logits_changes_nothing(backend: Backend, name: str) -> None:
    """A constant added to a row of logits changes no density, draw or probability."""

    @examples
    def check(seed: int, k: int, t: float, scale: float) -> None:
        rng = np.random.default_rng(seed)
        logits, value = scale * parameters(rng, True, k, (N,)), values(rng, name, k, N)
        shifted = logits + rng.normal(0, 10, (N, 1))
        distributions = [make(backend, name, t, x) for x in (logits, shifted)]
        close(
            *(
                backend.numpy(distribution.log_prob(backend.array(value)))
                for distribution in distributions
            ),
            1e-10,
        )
        close(
            *(backend.numpy(backend.draw(distribution, seed)) for distribution in distributions),
            1e-10,
        )
        close(*(backend.numpy(distribution.probs) for distribution in distributions))

    check()


@pytest.mark.parametrize("case", [CASES[1], CASES[3]], ids=lambda case: case.name)
def test_at_low_temperature_a_draw_is_the_discrete_one(backend: Backend, case: Case) -> None:
    """With equal noise, relaxed and discrete draws differ by at most (K - 1) exp(-gap / t).

    The gap is the difference of the two largest scores.
    """

    @fewer
    @given(seed=st.integers(0, 10**6), t=st.sampled_from([1e-4, 1e-3, 0.01, 0.1, 1.0]))
    def check(seed: int, t: float) -> None:
        logits = parameters(np.random.default_rng(seed), case.one_hot, 5, (20,))
        scores = logits + backend.numpy(backend.noise(case.one_hot, seed, logits.shape))
        top = np.sort(scores, -1) if case.one_hot else np.sort(two(scores), -1)
        bound = (top.shape[-1] - 1) * np.exp((top[:, -2] - top[:, -1]) / t) + 1e-12
        soft, hard = (
            backend.numpy(backend.draw(make(backend, name, t, logits), seed))
            for name in (case.name, case.discrete)
        )
        away = abs(soft - hard).reshape(20, -1).max(-1)
        assert (away <= bound).all()

    check()
