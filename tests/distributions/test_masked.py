"""Masked categories (logits of -inf, probs of exactly 0) leave the unmasked ones' distribution.

A logit or prob that masks has a gradient of exactly 0, and nothing is NaN.
Each distribution in each framework runs with both dtypes and both parameters. Only --whole runs
every pair of them.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from harness import Backend
from masked import (
    DISTRIBUTIONS,
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
)


@pytest.mark.share("backend", "name")
@each
@by
@precise
def test_sample(backend: Backend, name: str, by: str, dtype: str, rtol: float) -> None:
    """A sample is 0 (-inf in log space) where masked, and elsewhere that of the unmasked ones."""
    noise = backend.numpy(backend.noise(True, 0, (5,), dtype))[UNMASKED]
    scores, log_p = (
        np.log(WEIGHTS[UNMASKED]) + noise,
        special.log_softmax(np.log(WEIGHTS[UNMASKED])),
    )
    soft, hard = special.softmax(scores / T), np.eye(3)[scores.argmax()]
    expected = {"log space": np.log(soft), "simplex": soft, "discrete, soft": soft}.get(name, hard)
    value = backend.numpy(
        backend.draw(make(backend, name, by, backend.array(parameter(by), dtype)), 0)
    )
    np.testing.assert_array_equal(value[[1, 3]], -INF if name == "log space" else 0)
    np.testing.assert_allclose(value[UNMASKED], expected, rtol=rtol)
    if name == "discrete":
        return

    def f(x: Any) -> Any:
        drawn = backend.draw(make(backend, name, by, x), 0)
        return (
            (drawn if name != "log space" else backend.private.ops.exp(drawn))
            * backend.array(W, dtype)
        ).sum()

    # The gradient of sum w softmax(s / t) is x (w - sum x w) / t; that of log p by p is 1 / p.
    x, t = (np.exp(log_p), 1.0) if name == "discrete, through probs" else (soft, T)
    slope = x * (W[UNMASKED] - x @ W[UNMASKED]) / t
    slope = slope / (WEIGHTS[UNMASKED] if by == "probs" else 1)
    np.testing.assert_allclose(gradient(backend, f, by, dtype), slope, rtol=10 * rtol, atol=rtol)


@pytest.mark.share("backend", "name")
@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name != "straight-through"])
@by
@precise
def test_log_prob(backend: Backend, name: str, by: str, dtype: str, rtol: float) -> None:
    """Values of 0 at masked categories have the unmasked ones' density and gradients."""
    inside = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    if name.startswith("discrete") and name != "discrete, soft":
        inside = np.eye(3)
    points = np.zeros((len(inside), 5))
    points[:, UNMASKED] = inside
    if name == "log space":
        with np.errstate(divide="ignore"):
            inside, points = np.log(inside), np.log(points)

    def at(values: np.ndarray) -> Callable[..., Any]:
        return lambda x: make(backend, name, by, x).log_prob(backend.array(values, dtype)).sum()

    full, left = (backend.array(x, dtype) for x in (parameter(by), parameter(by)[UNMASKED]))
    densities = [
        backend.numpy(make(backend, name, by, x).log_prob(backend.array(v, dtype)))
        for x, v in ((full, points), (left, inside))
    ]
    np.testing.assert_allclose(*densities, rtol=rtol, atol=rtol)
    (expected,) = backend.grad(at(inside), left)
    np.testing.assert_allclose(
        gradient(backend, at(points), by, dtype), expected, rtol=10 * rtol, atol=10 * rtol
    )
    (slopes,) = backend.grad(
        lambda v: make(backend, name, by, full).log_prob(v).sum(), backend.array(points, dtype)
    )
    assert not np.isnan(slopes).any()


@pytest.mark.share("backend", "name")
@pytest.mark.parametrize("name", ["log space", "simplex", "straight-through"])
@by
@precise
def test_own_draws(backend: Backend, name: str, by: str, dtype: str, rtol: float) -> None:
    """The gradient of log q(x(theta)), draw included, is 0 in log space, (K x - 1)/t otherwise."""

    def f(x: Any) -> Any:
        made = make(backend, name, by, x)
        return made.log_prob(backend.draw(made, 0))

    scores = (
        np.log(WEIGHTS[UNMASKED]) + backend.numpy(backend.noise(True, 0, (5,), dtype))[UNMASKED]
    )
    expected = 0.0 if name == "log space" else (3 * special.softmax(scores / T) - 1) / T
    expected = expected / (WEIGHTS[UNMASKED] if by == "probs" else 1)
    np.testing.assert_allclose(
        gradient(backend, f, by, dtype), expected, rtol=10 * rtol, atol=10 * rtol
    )


@pytest.mark.share("backend")
@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_category_left(backend: Backend, name: str, dtype: str) -> None:
    """A single unmasked category is a point mass: log_prob 0 or -inf, entropy and gradients 0."""
    point, other = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    if name in ("log space", "simplex", "discrete, soft"):
        other = np.array([0.2, 0.5, 0.3])

    def f(x: Any) -> Any:
        made = make(backend, name, "logits", x)
        return made.log_prob(backend.draw(made, 0)).sum()

    logits = backend.array([-INF, 0.7, -INF], dtype)
    made = make(backend, name, "logits", logits)
    drawn = backend.draw(made, 0)
    values = np.exp(backend.numpy(drawn)) if name == "log space" else backend.numpy(drawn)
    np.testing.assert_array_equal(values, point)
    assert backend.numpy(made.log_prob(drawn)) == 0
    np.testing.assert_array_equal(backend.grad(f, logits)[0], 0)
    assert abs(backend.numpy(made.entropy())) < 1e-6
    if name != "straight-through":
        with np.errstate(divide="ignore"):
            at, off = np.log([point, other]) if name == "log space" else (point, other)
        assert backend.numpy(made.log_prob(backend.array(at, dtype))) == 0
        assert backend.numpy(made.log_prob(backend.array(off, dtype))) == -INF


def test_a_large_negative_logit_is_no_mask(backend: Backend) -> None:
    """A large negative logit has another density and no exact zero, which these tests see."""
    with_substitute = np.maximum(parameter("logits"), -1e4)
    made = make(backend, "log space", "logits", backend.array(with_substitute))
    left = make(backend, "log space", "logits", backend.array(parameter("logits")[UNMASKED]))
    draw = backend.numpy(backend.draw(made, 0))
    assert np.isfinite(draw).all()
    densities = [
        backend.numpy(d.log_prob(backend.array(x)))
        for d, x in ((made, draw), (left, draw[UNMASKED]))
    ]
    assert abs(np.subtract(*densities)) > 1


def test_off_the_face_has_no_density(backend: Backend) -> None:
    """Weight on a masked category, or 0 on an unmasked one, has the log density -inf."""
    names, logits = backend.names, backend.array([0.0, 0.0, -INF])
    d = names.RelaxedOneHotCategorical(0.5, logits=logits)
    assert backend.numpy(d.log_prob(backend.array([0.3, 0.3, 0.4]))) == -INF
    assert np.isfinite(backend.numpy(d.log_prob(backend.array([0.6, 0.4, 0.0]))))
    log_d = names.ExpRelaxedOneHotCategorical(0.5, logits=logits)
    assert backend.numpy(log_d.log_prob(backend.array(np.log([0.3, 0.3, 0.4])))) == -INF
    whole = names.RelaxedOneHotCategorical(0.5, logits=backend.array(np.zeros(3)))
    assert backend.numpy(whole.log_prob(backend.draw(d, 0))) == -INF


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_point_masses(backend: Backend, p: float) -> None:
    """With probs of 0 or 1 the draw is that number, with log density 0; others have -inf."""
    names = backend.names
    for name in ("RelaxedBernoulli", "RelaxedBernoulliStraightThrough"):
        d = getattr(names, name)(0.5, probs=backend.array(p))
        value = backend.draw(d, 0)
        assert backend.numpy(value) == p
        assert backend.numpy(d.log_prob(value)) == 0
        assert backend.numpy(d.discrete.log_prob(backend.array(p))) == 0
    d = names.RelaxedBernoulli(0.5, probs=backend.array(p))
    assert backend.numpy(d.log_prob(backend.array(p))) == 0
    assert backend.numpy(d.log_prob(backend.array(0.3))) == -INF

    def f(probs: object) -> object:
        made = names.RelaxedBernoulli(0.5, probs=probs)
        value = backend.draw(made, 0)
        return value.sum() + made.log_prob(value).sum()

    assert np.isfinite(backend.grad(f, backend.array(p))[0])
