"""Masked categories: logits of -inf, or probs of exactly 0, leave the law of the others.

A logit or prob that masks has a gradient of exactly 0, and nothing is NaN.
Of each distribution in each framework both dtypes and both parameters, but not each with each,
which --whole takes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

from harness import Backend
from masked import INF, KEPT, LAWS, WEIGHTS, T, W, by, gradient, laws, make, parameter, precise


@pytest.mark.share("backend", "law")
@laws
@by
@precise
def test_sample(backend: Backend, law: str, by: str, dtype: str, rtol: float) -> None:
    """0 (-inf in log space) where masked; at the others that of their own law, and its gradient."""
    noise = backend.numpy(backend.noise(True, 0, (5,), dtype))[KEPT]
    scores, log_p = np.log(WEIGHTS[KEPT]) + noise, special.log_softmax(np.log(WEIGHTS[KEPT]))
    soft, hard = special.softmax(scores / T), np.eye(3)[scores.argmax()]
    expected = {"log space": np.log(soft), "simplex": soft, "discrete, soft": soft}.get(law, hard)
    value = backend.numpy(
        backend.draw(make(backend, law, by, backend.array(parameter(by), dtype)), 0)
    )
    np.testing.assert_array_equal(value[[1, 3]], -INF if law == "log space" else 0)
    np.testing.assert_allclose(value[KEPT], expected, rtol=rtol)
    if law == "discrete":
        return

    def f(x: Any) -> Any:
        drawn = backend.draw(make(backend, law, by, x), 0)
        return (
            (drawn if law != "log space" else backend.private.ops.exp(drawn))
            * backend.array(W, dtype)
        ).sum()

    # Of sum w softmax(s / t): x (w - sum x w) / t; that of log p with respect to p is 1 / p.
    x, t = (np.exp(log_p), 1.0) if law == "discrete, through probs" else (soft, T)
    slope = x * (W[KEPT] - x @ W[KEPT]) / t
    slope = slope / (WEIGHTS[KEPT] if by == "probs" else 1)
    np.testing.assert_allclose(gradient(backend, f, by, dtype), slope, rtol=10 * rtol, atol=rtol)


@pytest.mark.share("backend", "law")
@pytest.mark.parametrize("law", [law for law in LAWS if law != "straight-through"])
@by
@precise
def test_log_prob(backend: Backend, law: str, by: str, dtype: str, rtol: float) -> None:
    """Of points of the face that is left: that of its own law, and its gradients."""
    inside = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    if law.startswith("discrete") and law != "discrete, soft":
        inside = np.eye(3)
    points = np.zeros((len(inside), 5))
    points[:, KEPT] = inside
    if law == "log space":
        with np.errstate(divide="ignore"):
            inside, points = np.log(inside), np.log(points)

    def at(values: np.ndarray) -> Callable[..., Any]:
        return lambda x: make(backend, law, by, x).log_prob(backend.array(values, dtype)).sum()

    full, left = (backend.array(x, dtype) for x in (parameter(by), parameter(by)[KEPT]))
    densities = [
        backend.numpy(make(backend, law, by, x).log_prob(backend.array(v, dtype)))
        for x, v in ((full, points), (left, inside))
    ]
    np.testing.assert_allclose(*densities, rtol=rtol, atol=rtol)
    (expected,) = backend.grad(at(inside), left)
    np.testing.assert_allclose(
        gradient(backend, at(points), by, dtype), expected, rtol=10 * rtol, atol=10 * rtol
    )
    (slopes,) = backend.grad(
        lambda v: make(backend, law, by, full).log_prob(v).sum(), backend.array(points, dtype)
    )
    assert not np.isnan(slopes).any()


@pytest.mark.share("backend", "law")
@pytest.mark.parametrize("law", ["log space", "simplex", "straight-through"])
@by
@precise
def test_own_draws(backend: Backend, law: str, by: str, dtype: str, rtol: float) -> None:
    """The whole gradient of log q(x(theta)) is 0 in log space, and (K x - 1)/t on the simplex."""

    def f(x: Any) -> Any:
        made = make(backend, law, by, x)
        return made.log_prob(backend.draw(made, 0))

    scores = np.log(WEIGHTS[KEPT]) + backend.numpy(backend.noise(True, 0, (5,), dtype))[KEPT]
    expected = 0.0 if law == "log space" else (3 * special.softmax(scores / T) - 1) / T
    expected = expected / (WEIGHTS[KEPT] if by == "probs" else 1)
    np.testing.assert_allclose(
        gradient(backend, f, by, dtype), expected, rtol=10 * rtol, atol=10 * rtol
    )


@pytest.mark.share("backend")
@laws
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_category_left(backend: Backend, law: str, dtype: str) -> None:
    """A point mass: log_prob 0 there and -inf elsewhere, entropy 0, every gradient 0."""
    point, other = np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    if law in ("log space", "simplex", "discrete, soft"):
        other = np.array([0.2, 0.5, 0.3])

    def f(x: Any) -> Any:
        made = make(backend, law, "logits", x)
        return made.log_prob(backend.draw(made, 0)).sum()

    logits = backend.array([-INF, 0.7, -INF], dtype)
    made = make(backend, law, "logits", logits)
    drawn = backend.draw(made, 0)
    values = np.exp(backend.numpy(drawn)) if law == "log space" else backend.numpy(drawn)
    np.testing.assert_array_equal(values, point)
    assert backend.numpy(made.log_prob(drawn)) == 0
    np.testing.assert_array_equal(backend.grad(f, logits)[0], 0)
    assert abs(backend.numpy(made.entropy())) < 1e-6
    if law != "straight-through":
        with np.errstate(divide="ignore"):
            at, off = np.log([point, other]) if law == "log space" else (point, other)
        assert backend.numpy(made.log_prob(backend.array(at, dtype))) == 0
        assert backend.numpy(made.log_prob(backend.array(off, dtype))) == -INF


def test_a_large_negative_logit_is_no_mask(backend: Backend) -> None:
    """The tempting substitute has another density, and no exact zero: these tests see it."""
    with_substitute = np.maximum(parameter("logits"), -1e4)
    made = make(backend, "log space", "logits", backend.array(with_substitute))
    left = make(backend, "log space", "logits", backend.array(parameter("logits")[KEPT]))
    draw = backend.numpy(backend.draw(made, 0))
    assert np.isfinite(draw).all()
    densities = [
        backend.numpy(law.log_prob(backend.array(x)))
        for law, x in ((made, draw), (left, draw[KEPT]))
    ]
    assert abs(np.subtract(*densities)) > 1


def test_off_the_face_has_no_density(backend: Backend) -> None:
    """Weight on a masked category, or none on one that is kept: -inf, not another law's."""
    names, logits = backend.names, backend.array([0.0, 0.0, -INF])
    law = names.RelaxedOneHotCategorical(0.5, logits=logits)
    assert backend.numpy(law.log_prob(backend.array([0.3, 0.3, 0.4]))) == -INF
    assert np.isfinite(backend.numpy(law.log_prob(backend.array([0.6, 0.4, 0.0]))))
    log_law = names.ExpRelaxedOneHotCategorical(0.5, logits=logits)
    assert backend.numpy(log_law.log_prob(backend.array(np.log([0.3, 0.3, 0.4])))) == -INF
    whole = names.RelaxedOneHotCategorical(0.5, logits=backend.array(np.zeros(3)))
    assert backend.numpy(whole.log_prob(backend.draw(law, 0))) == -INF


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_point_masses(backend: Backend, p: float) -> None:
    """probs of exactly 0 and 1: the draw is that, of log density 0; anything else has none."""
    names = backend.names
    for name in ("RelaxedBernoulli", "RelaxedBernoulliStraightThrough"):
        law = getattr(names, name)(0.5, probs=backend.array(p))
        value = backend.draw(law, 0)
        assert backend.numpy(value) == p
        assert backend.numpy(law.log_prob(value)) == 0
        assert backend.numpy(law.discrete.log_prob(backend.array(p))) == 0
    law = names.RelaxedBernoulli(0.5, probs=backend.array(p))
    assert backend.numpy(law.log_prob(backend.array(p))) == 0
    assert backend.numpy(law.log_prob(backend.array(0.3))) == -INF

    def f(probs: object) -> object:
        made = names.RelaxedBernoulli(0.5, probs=probs)
        value = backend.draw(made, 0)
        return value.sum() + made.log_prob(value).sum()

    assert np.isfinite(backend.grad(f, backend.array(p))[0])
