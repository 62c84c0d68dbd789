"""Masked categories: entropies, moments and KL are those of the unmasked categories.

The gradient of a masked logit or prob is exactly 0. Each distribution in each framework runs with
both dtypes and both parameters. Only --whole runs every pair of them.
"""

from typing import Any

import numpy as np
import pytest

from harness import Backend
from masked import (
    INF,
    UNMASKED,
    WEIGHTS,
    T,
    W,
    by,
    each,
    gradient,
    make,
    parameter,
    precise,
    reference,
    value_and_gradient,
)


@pytest.mark.share("backend", "name")
@each
@by
@precise
def test_entropy(backend: Backend, name: str, by: str, dtype: str, rtol: float) -> None:
    """Entropy and gradient are those of the unmasked categories."""
    left = backend.array(parameter(by)[UNMASKED], dtype)

    def entropy(x: Any) -> Any:
        return make(backend, name, by, x).entropy() + 0 * x[0]  # so that x is in the graph

    value, found = value_and_gradient(backend, entropy, by, dtype)
    of_left, expected = backend.with_gradient(entropy, left)
    np.testing.assert_allclose(value, of_left, rtol=rtol)
    np.testing.assert_allclose(found, expected, rtol=10 * rtol, atol=10 * rtol)


@pytest.mark.share("backend", "name")
@pytest.mark.parametrize("name", ["simplex", "discrete"])
@by
@precise
def test_mean_and_variance(backend: Backend, name: str, by: str, dtype: str, rtol: float) -> None:
    """Moments are 0 where masked; elsewhere they are, with gradients, those of the unmasked."""
    full, left = (backend.array(x, dtype) for x in (parameter(by), parameter(by)[UNMASKED]))
    each = [make(backend, name, by, x) for x in (full, left)]
    for moment in ("mean", "variance"):
        ours, theirs = (backend.numpy(getattr(made, moment)) for made in each)
        np.testing.assert_array_equal(ours[[1, 3]], 0)
        np.testing.assert_allclose(ours[UNMASKED], theirs, rtol=rtol, atol=rtol)

    def f(x: Any, weights: np.ndarray) -> Any:
        made = make(backend, name, by, x)
        return ((made.mean - 2 * made.variance) * backend.array(weights, dtype)).sum()

    _, expected = backend.with_gradient(lambda x: f(x, W[UNMASKED]), left)
    _, found = value_and_gradient(backend, lambda x: f(x, W), by, dtype)
    np.testing.assert_allclose(found, expected, rtol=10 * rtol, atol=10 * rtol)


@pytest.mark.share
@precise
def test_gradient_by_the_temperature(backend: Backend, dtype: str, rtol: float) -> None:
    """Entropy, moments and KL have the temperature gradient of the unmasked categories."""

    def slopes(backend: Backend, logits: np.ndarray) -> np.ndarray:
        rows, t = backend.array([logits, logits], dtype), backend.array([T, 2.0], dtype)

        def f(t: Any) -> Any:
            name = backend.names.RelaxedOneHotCategorical
            made, other = name(t, logits=rows), name(1.0, logits=2 * rows)
            kl = backend.divergence(made, other)  # ratios of temperatures: 1/2 and 2
            return ((made.mean - 2 * made.variance)[:, 0] + made.entropy() + kl).sum()

        return backend.with_gradient(f, t)[1]

    expected = slopes(reference(backend), parameter("logits")[UNMASKED])
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(slopes(backend, parameter("logits")), expected, rtol=10 * rtol)


@pytest.mark.share("backend", "name")
@pytest.mark.parametrize(("name", "t"), [("log space", T), ("simplex", 0.8)])
@by
@precise
def test_kl_of_relaxed_distributions(
    backend: Backend, name: str, t: float, by: str, dtype: str, rtol: float
) -> None:
    """The KL is that of the unmasked categories; infinite if only the second masks one."""
    cls = {"log space": "Exp", "simplex": ""}[name] + "RelaxedOneHotCategorical"
    other = np.array([1.0, 0.0, 0.2, 0.0, 0.7])

    def second(backend: Backend, probs: np.ndarray) -> Any:
        return getattr(backend.names, cls)(t, probs=backend.array(probs, dtype))

    def f(backend: Backend, x: Any, probs: np.ndarray) -> Any:
        made, prior = make(backend, name, by, x), second(backend, probs)
        return backend.divergence(made, prior) + backend.divergence(prior, made)

    known = reference(backend)
    ours, found = value_and_gradient(backend, lambda x: f(backend, x, other), by, dtype)
    theirs, expected = known.with_gradient(
        lambda x: f(known, x, other[UNMASKED]), known.array(parameter(by)[UNMASKED], dtype)
    )
    np.testing.assert_allclose(ours, theirs, rtol=rtol)
    np.testing.assert_allclose(found, expected, rtol=10 * rtol, atol=10 * rtol)
    whole = second(backend, np.ones(5))

    def between_faces(x: Any) -> Any:
        made = make(backend, name, by, x)
        return backend.divergence(made, whole), backend.divergence(whole, made)

    assert [
        backend.numpy(x)
        for x in backend.compiled(between_faces)(backend.array(parameter(by), dtype))
    ] == [INF, INF]


@pytest.mark.share("backend")
@by
@precise
def test_kl_of_discrete_distributions(backend: Backend, by: str, dtype: str, rtol: float) -> None:
    """The KL and its gradients are those of unmasked categories; infinite if only q masks one."""
    cls, other = backend.names.OneHotCategorical, np.array([1.0, 0.5, 0.2, 0.0, 0.7])
    p, q = WEIGHTS / WEIGHTS.sum(), other / other.sum()
    expected = (p[UNMASKED] * np.log(p[UNMASKED] / q[UNMASKED])).sum()
    masked = cls(**{by: backend.array(parameter(by), dtype)})
    wide = cls(probs=backend.array(other, dtype))
    np.testing.assert_allclose(backend.kl(masked, wide), expected, rtol=rtol)
    assert backend.kl(wide, masked) == INF
    # The gradient is p (log p/q - KL) by the logits of p, and q - p by those of q.
    chain = WEIGHTS[UNMASKED] if by == "probs" else 1.0
    found = gradient(backend, lambda x: backend.divergence(cls(**{by: x}), wide), by, dtype)
    slope = p[UNMASKED] * (np.log(p[UNMASKED] / q[UNMASKED]) - expected) / chain
    np.testing.assert_allclose(found, slope, rtol=10 * rtol, atol=10 * rtol)
    narrow = cls(probs=backend.array([0.2, 0.0, 0.3, 0.0, 0.5], dtype))
    found = gradient(backend, lambda x: backend.divergence(narrow, cls(**{by: x})), by, dtype)
    slope = (p[UNMASKED] - np.array([0.2, 0.3, 0.5])) / chain
    np.testing.assert_allclose(found, slope, rtol=10 * rtol, atol=10 * rtol)
