"""The estimators' closed forms, the papers' theorems about them, and where they run."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax

from harness import Backend, jax, one_graph, torch
from numpy_ops import NumpyOps
from relaxed_dists._distributions import estimator_base, formulas
from relaxed_dists._distributions.estimators import (
    DecoupledGumbelSoftmax,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
    StraightThrough,
)

T, GAP, SAMPLES = 0.7, 1.5, 3
ALL = [
    StraightThrough(),
    GumbelSoftmax(T),
    GumbelSoftmax(T, hard=False),
    DecoupledGumbelSoftmax(0.3, T),
    GumbelRao(T, SAMPLES),
    GappedStraightThrough(T, GAP),
    ReinMax(),
    ReinMax(2.0),
    ReinMaxRao(T, SAMPLES),
]


def jacobian(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The softmax's Jacobian times g, diag(p) g - p p^T g, for each row."""
    return p * (g - (p * g).sum(-1, keepdims=True))


def conditional(p: np.ndarray, hard: np.ndarray, gumbel: np.ndarray) -> np.ndarray:
    """Scores given that the hard category is the largest: Paulus et al. (2021), equation 6."""
    e = np.exp(-gumbel)
    top = (e * hard).sum(-1, keepdims=True)
    return np.where(hard == 1, -np.log(top), -np.log(e / p + top))


def paper(
    estimator: Any, logits: np.ndarray, gumbel: np.ndarray, more: np.ndarray, g: np.ndarray
) -> np.ndarray:
    """The gradient by the logits by the estimator's paper, if the sample's gradient is g."""
    p, hard = softmax(logits, -1), NumpyOps().one_hot_argmax(logits + gumbel)
    match estimator:
        case StraightThrough():
            return jacobian(p, g)
        case GumbelSoftmax(temperature=t) | DecoupledGumbelSoftmax(backward=t):
            return jacobian(softmax((logits + gumbel) / t, -1), g) / t
        case GumbelRao(temperature=t):
            x = softmax(conditional(p, hard, more) / t, -1)
            return (jacobian(x, g) / t).mean(0)
        case GappedStraightThrough(temperature=t, gap=gap):
            top = logits.max(-1, keepdims=True)
            moved = np.where(hard == 1, top, np.minimum(logits, top - gap))
            return jacobian(softmax(moved / t, -1), g) / t
        case ReinMax(temperature=t):
            middle = (softmax(logits / t, -1) + hard) / 2
            return 2 * jacobian(middle, g) - jacobian(p, g) / 2
        case ReinMaxRao(temperature=t):
            x = softmax(conditional((p + hard) / 2, hard, more) / t, -1)
            return 2 * (jacobian(x, g) / t).mean(0) - jacobian(p, g) / 2
    raise AssertionError


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_closed_forms(backend: Backend, estimator: Any, seed: int) -> None:
    """An estimator's gradient is its paper's at equal noise and sample gradient, to rounding."""
    rng = np.random.default_rng(seed)
    logits, gumbel = rng.normal(0, 2, (20, 5)), rng.gumbel(size=(20, 5))
    more, g = rng.gumbel(size=(SAMPLES, 20, 5)), rng.normal(size=(20, 5))
    ops = backend.private.ops
    noise, others, weights = (backend.array(x) for x in (gumbel, more, g))

    def f(x: Any) -> Any:
        return (estimator.one_hot(ops, x, noise, others) * weights).sum()

    expected, x = paper(estimator, logits, gumbel, more, g), backend.array(logits)
    np.testing.assert_allclose(backend.grad(backend.compiled(f), x)[0], expected, atol=1e-13)
    draw = backend.compiled(lambda x: estimator.one_hot(ops, x, noise, others))
    value = backend.numpy(draw(x))
    hard = np.eye(5)[(logits + gumbel).argmax(-1)]
    if estimator.soft:
        t = getattr(estimator, "forward", T)
        np.testing.assert_allclose(value, softmax((logits + gumbel) / t, -1), atol=1e-13)
    else:
        np.testing.assert_array_equal(value, hard)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_a_number_is_the_first_of_two_categories(backend: Backend, estimator: Any) -> None:
    """The gradient of a binary value is that of the first entry of a one-hot pair."""
    rng = np.random.default_rng(0)
    logits, logistic = rng.normal(0, 2, 20), rng.logistic(size=20)
    more, g = rng.gumbel(size=(SAMPLES, 20, 2)), rng.normal(size=20)
    ops = backend.private.ops
    noise, others, weights = (backend.array(x) for x in (logistic, more, g))

    def f(x: Any) -> Any:
        value = estimator_base.value(ops, estimator, False, x, noise, others)
        return (value * weights).sum()

    two, gumbel, by_value = (np.stack([x, 0 * x], -1) for x in (logits, logistic, g))
    expected = paper(estimator, two, gumbel, more, by_value)[:, 0]
    found = backend.grad(backend.compiled(f), backend.array(logits))[0]
    np.testing.assert_allclose(found, expected, atol=1e-13)


# Tests of the papers' theorems. The expectation over the hard sample is a sum over K categories.
# Estimators with further noise have N draws of it.

K, N = 4, 40_000


def gradients(
    backend: Backend, estimator: Any, logits: np.ndarray, slope: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """The estimated gradient at each one-hot sample, for a function whose gradient is `slope`."""
    hard = np.eye(K)
    ops, where = backend.private.ops, backend.array(1e3 * hard)  # noise that makes it the argmax
    weights = backend.array(np.stack([slope(x) for x in hard]))
    rows = backend.array(np.tile(logits, (K, 1)))
    f = backend.compiled(lambda x: (estimator.one_hot(ops, x, where) * weights).sum())
    return backend.grad(f, rows)[0]


def exact(logits: np.ndarray, f: Callable[[np.ndarray], float]) -> np.ndarray:
    """The gradient of sum_k p_k f(e_k)."""
    return jacobian(softmax(logits), np.array([f(x) for x in np.eye(K)]))


class PlainMiddle(ReinMax):
    """A wrong ReinMax, with the softmax pi in place of pi_D, its mean with the hard sample."""

    def one_hot(self, ops: Any, logits: Any, gumbel: Any, more: Any = None) -> Any:
        """The estimate without the step of Heun's method."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        pi = formulas.softmax(ops, logits)
        return ops.stop_gradient(hard) + 1.5 * ops.slope(logits, pi)


@pytest.mark.parametrize(
    ("estimator", "order", "holds"),
    [
        (StraightThrough(), 1, True),
        (StraightThrough(), 2, False),
        (ReinMax(), 2, True),
        (ReinMax(), 3, False),
        (ReinMax(2.0), 2, False),
        (PlainMiddle(), 2, False),
        (GappedStraightThrough(1.0), 1, False),
    ],
    ids=repr,
)
def test_exact_in_expectation(backend: Backend, estimator: Any, order: int, holds: bool) -> None:
    """Straight-through is exact for linear functions, ReinMax for quadratic ones, and no further.

    Exact means to 1e-12; otherwise the gradient is off by more than 1e-3.
    """
    rng = np.random.default_rng(1)
    logits, tensor = rng.normal(size=K), rng.normal(size=(K,) * order)
    sym = sum(np.moveaxis(tensor, 0, i) for i in range(order))  # the gradient's tensor

    def f(x: np.ndarray) -> float:
        return tensor @ x if order == 1 else x @ tensor @ x if order == 2 else f3(x)

    def f3(x: np.ndarray) -> float:
        return np.einsum("ijk,i,j,k", tensor, x, x, x)

    def slope(x: np.ndarray) -> np.ndarray:
        if order == 3:
            return sum(
                np.einsum(path, tensor, x, x) for path in ("ijk,j,k->i", "jik,j,k->i", "jki,j,k->i")
            )
        return tensor if order == 1 else sym @ x

    estimates = gradients(backend, estimator, logits, slope)
    error = abs(softmax(logits) @ estimates - exact(logits, f)).max()
    assert (error < 1e-12) == holds
    assert holds or error > 1e-3


class Attached(GumbelRao):
    """A wrong Gumbel-Rao, whose conditional noise has a gradient."""

    def one_hot(self, ops: Any, logits: Any, gumbel: Any, more: Any = None) -> Any:
        """The estimate with the gradient through the conditional scores."""
        hard = formulas.hard_argmax(ops, logits, gumbel)
        log_p = ops.log_softmax(logits)
        top = ops.sum(hard * more)[..., None]
        scores = ops.where(hard > 0, top, log_p + more - ops.softplus(log_p + more - top))
        return formulas.straight_through(
            ops, hard, ops.exp(ops.log_softmax(scores / self.temperature)).mean(0)
        )


def sampled(backend: Backend, estimator: Any, seed: int, slope: Any) -> np.ndarray:
    """N estimates of the gradient, each with its own noise."""
    rng = np.random.default_rng(seed)
    logits, ops = np.tile([1.0, 0, -1, 0.5], (N, 1)), backend.private.ops
    gumbel, more = rng.gumbel(size=(N, K)), rng.gumbel(size=(estimator.draws, N, K))
    weights = backend.array(slope(np.eye(K)[(logits + gumbel).argmax(-1)]))
    noise, others = backend.array(gumbel), backend.array(more)

    def f(x: Any) -> Any:
        return (estimator.one_hot(ops, x, noise, others) * weights).sum()

    return backend.grad(backend.compiled(f), backend.array(logits))[0]


def slope(hard: np.ndarray) -> np.ndarray:
    """The gradient of a fixed nonlinear function."""
    return np.cos(3 * hard @ np.arange(1.0, 17).reshape(4, 4) / 7)


def test_gumbel_rao(backend: Backend, seed: int) -> None:
    """Gumbel-Rao has straight-through Gumbel-Softmax's mean, and a smaller variance.

    Each sample has 40,000 draws. The false-alarm rate is 1e-6 (Bonferroni over 4 categories), and
    an error of 7 standard errors, 0.01 here, is seen; a gradient through the noise is off by 0.1.
    With one conditional draw the variance is not smaller.
    """
    plain = sampled(backend, GumbelSoftmax(T), seed, slope)
    for estimator, right, less in (
        (GumbelRao(T, SAMPLES), True, True),
        (GumbelRao(T, 1), True, False),
        (Attached(T, SAMPLES), False, True),
    ):
        rao = sampled(backend, estimator, seed + 1, slope)
        error = np.sqrt((plain.var(0) + rao.var(0)) / N)
        z = abs(plain.mean(0) - rao.mean(0)) / error
        assert (z.max() < stats.norm.isf(1e-6 / 2 / K)) == right
        assert (rao.var(0) < 0.8 * plain.var(0)).all() == less


def test_conditional_noise(seed: int) -> None:
    """Conditional noise keeps the given argmax, and is Gumbel noise over random argmaxes.

    Kolmogorov-Smirnov tests with a false-alarm rate of 1e-6 see a shift of 0.02, and reject noise
    conditioned on another argmax.
    """
    ops, rng = NumpyOps(), np.random.default_rng(seed)
    logits = np.tile([1.0, 0, -1, 0.5], (N, 1))
    hard = ops.one_hot_argmax(logits + rng.gumbel(size=(N, K)))
    for given, holds in ((hard, True), (hard[:, ::-1], False)):
        noise = formulas.conditional_gumbel(ops, logits, given, rng.gumbel(size=(N, K)))
        assert (ops.one_hot_argmax(logits + noise) == given).all()
        p = [stats.kstest(column, stats.gumbel_r.cdf).pvalue for column in noise.T]
        assert (min(p) > 1e-6 / K) == holds


def test_limits(backend: Backend) -> None:
    """At limits of their parameters, the gapped and the decoupled estimator equal simpler ones."""
    rng = np.random.default_rng(2)
    ops, g = backend.private.ops, backend.array(rng.normal(size=(20, K)))
    logits, gumbel = rng.normal(size=(20, K)), backend.array(rng.gumbel(size=(20, K)))

    def both(estimator: Any, x: np.ndarray, noise: Any = gumbel) -> list[np.ndarray]:
        value = estimator.one_hot(ops, backend.array(x), noise)
        f = lambda x: (estimator.one_hot(ops, x, noise) * g).sum()  # noqa: E731
        return [backend.numpy(value), backend.grad(f, backend.array(x))[0]]

    def close(x: list[np.ndarray], y: list[np.ndarray], atol: float = 1e-14) -> None:
        np.testing.assert_allclose(np.stack(x), np.stack(y), atol=atol)

    close(both(DecoupledGumbelSoftmax(0.5, 0.5), logits), both(GumbelSoftmax(0.5, False), logits))
    close(both(DecoupledGumbelSoftmax(1e-5, 0.5), logits), both(GumbelSoftmax(0.5), logits))
    # If the drawn category's logit leads by the gap, the estimator is the logits' softmax.
    apart, zero = 3 * np.argsort(logits), backend.array(np.zeros((20, K)))
    plain = both(GumbelSoftmax(T), apart, zero)
    close(both(GappedStraightThrough(T, 3.0), apart, zero), plain)
    assert abs(both(GappedStraightThrough(T, 4.0), apart, zero)[1] - plain[1]).max() > 1e-3
    assert abs(both(GappedStraightThrough(T, 100.0), apart, zero)[1]).max() < 1e-40


# Tests of dtypes, masks and transformations.

MASKED = np.array([[0.0, 1, -np.inf, 2], [-np.inf, 0, -np.inf, -np.inf], [9e6, 0, -9e6, 80]])


@pytest.mark.share("backend")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_masked_far_apart_and_in_half_precision(
    backend: Backend, estimator: Any, dtype: str
) -> None:
    """Values and gradients are finite, and those of masked categories are exactly 0.

    A share of the cases runs each estimator and each dtype in each framework.
    """

    def f(logits: Any) -> Any:
        d = backend.names.OneHotCategorical(logits=logits, estimator=estimator)
        draw = backend.draw(d, 0, (7,))
        binary = backend.names.Bernoulli(logits=logits, estimator=estimator)
        numbers = backend.draw(binary, 0)
        return (draw * backend.array(np.arange(4.0), "float32")).sum() + numbers.sum()

    gradient = backend.grad(backend.compiled(f), backend.array(MASKED, dtype))[0]
    assert np.isfinite(gradient).all()
    assert (gradient[np.isinf(MASKED)] == 0).all()


def test_many_categories(backend: Backend) -> None:
    """With 50,257 categories in float32, gradients are finite and not all 0."""
    logits = backend.array(np.random.default_rng(0).normal(0, 3, 50_257), "float32")
    for estimator in ALL:

        def f(logits: Any, estimator: Any = estimator) -> Any:
            d = backend.names.OneHotCategorical(logits=logits, estimator=estimator)
            return (backend.draw(d, 0) * logits).sum() - (d.logits * 0).sum()

        gradient = backend.grad(backend.compiled(f), logits)[0]
        assert np.isfinite(gradient).all()
        assert abs(gradient).max() > 0


# The compiler of torch 2.13 causes a warning of torch at every autograd function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_transformed(backend: Backend, estimator: Any) -> None:
    """Compiled code and vmap give the plain results for the same noise."""
    rng = np.random.default_rng(0)
    ops = backend.private.ops
    x, gumbel = (backend.array(rng.gumbel(size=(6, K))) for _ in range(2))
    more = backend.array(rng.gumbel(size=(6, SAMPLES, K)))
    weights = backend.array(np.arange(4.0))

    def one(x: Any, gumbel: Any, more: Any) -> Any:
        return (estimator.one_hot(ops, x, gumbel, more) * weights).sum()

    if backend.framework == "pyro":
        slope: Any = torch.func.grad(one)
        many = torch.func.vmap(slope)
    else:
        slope = jax.jit(jax.grad(one))
        many = jax.jit(jax.vmap(slope))
    found = backend.numpy(many(x, gumbel, more))
    alone = backend.numpy(slope(x[2], gumbel[2], more[2]))
    np.testing.assert_allclose(found[2], alone, atol=1e-14)

    cls = backend.names.OneHotCategorical

    if backend.framework == "pyro":
        torch.manual_seed(0)
        plain = backend.grad(lambda x: cls(logits=x, estimator=estimator).rsample()[0, 0], x)[0]
        whole = one_graph(
            lambda x: cls(logits=x, estimator=estimator).rsample()[0, 0], backend="aot_eager"
        )
        torch.manual_seed(0)
        np.testing.assert_allclose(backend.grad(whole, x)[0], plain, atol=1e-14)
    else:
        # Other tests draw in compiled code. Here compiled code returns the distribution.
        made = jax.jit(lambda x: cls(logits=x, estimator=estimator))(x)
        assert type(made.estimator) is type(estimator)
        assert made.estimator.draws == estimator.draws


# Tests of a user's estimator, and of errors.


def test_own(backend: Backend) -> None:
    """An estimator may be a function of logits, a one-hot draw and its noise."""
    names = backend.names

    def own(logits: Any, one_hot: Any, gumbel: Any) -> Any:
        e = backend.private.ops.exp(logits)
        return names.straight_through(one_hot, e / e.sum(-1)[..., None])

    def f(estimator: Any, one_hot: bool) -> Callable[[Any], Any]:
        cls = names.OneHotCategorical if one_hot else names.Bernoulli
        return lambda x: (backend.draw(cls(logits=x, estimator=estimator), 0)[0] * x[1]).sum()

    x = backend.array([[0.0, 1, 2], [0.5, -1, 0]])
    for one_hot in (True, False):
        expected = backend.grad(backend.compiled(f(names.StraightThrough(), one_hot)), x)[0]
        np.testing.assert_allclose(backend.grad(f(own, one_hot), x)[0], expected, atol=1e-14)
        compiled = backend.compiled(f(own, one_hot))
        np.testing.assert_allclose(backend.grad(compiled, x)[0], expected, atol=1e-14)


BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no temperature": (lambda n: n.GumbelRao(0.0, 3), "GumbelRao got temperature=0.0; expected"),
    "forward": (lambda n: n.DecoupledGumbelSoftmax(-1, 1.0), "Softmax got forward=-1; expected"),
    "no samples": (lambda n: n.GumbelRao(1.0, 0), "GumbelRao got samples=0; expected a whole"),
    "half a sample": (lambda n: n.ReinMaxRao(1.0, 1.5), "got samples=1.5; expected a whole"),
    "ReinMax below 1": (lambda n: n.ReinMax(0.5), r"got temperature=0.5; expected .* at least 1"),
    "an array below 1": (
        lambda n: n.Bernoulli([0.5, 0.5], estimator=n.ReinMax(np.array([1.0, 0.5]))),
        r"ReinMax got temperature=.*0.5.*; expected .* at least 1",
    ),
    "gap": (lambda n: n.GappedStraightThrough(1.0, -1), "got gap=-1; expected a finite number"),
    "too many samples": (lambda n: n.GumbelRao(1.0, 2**70), "; expected a whole number from 1"),
    **{
        f"gap {gap!r}": (
            lambda n, gap=gap: n.GappedStraightThrough(0.5, gap=gap),
            "; expected a finite number of at",
        )
        for gap in (None, "1", np.ones(2), [1.0], Decimal(1), Fraction(1))
    },
    **{
        f"{cls.__name__} in place of an estimator": (
            lambda n, cls=cls: n.Bernoulli(0.5, estimator=cls),
            f"got <class '{cls.__name__}'> as its estimator; expected a value .* Give one",
        )
        for cls in (float, int, list)
    },
    "a number": (
        lambda n: n.Bernoulli(0.5, estimator=0.5), "Bernoulli got 0.5 as its estimator; expected"),
    "the class": (
        lambda n: n.OneHotCategorical([0.5, 0.5], estimator=n.ReinMax),
        r"got the class ReinMax as its estimator; .* Call it: ReinMax\(\.\.\.\)",
    ),
    "a temperature a category": (
        lambda n: n.OneHotCategorical([[0.5, 0.5]] * 3, estimator=n.GumbelRao(np.ones((3, 2)))),
        "got a temperature of shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("label", BAD)
def test_errors(backend: Backend, label: str) -> None:
    """The errors say what was got, what was expected and what to do."""
    make, text = BAD[label]
    with pytest.raises(ValueError, match=text):
        make(backend.names)


@pytest.mark.parametrize("estimator", [ReinMax(), ReinMaxRao(T)], ids=repr)
def test_no_second_derivative(backend: Backend, estimator: Any) -> None:
    """A second derivative raises if the estimate is no function's gradient; the first one works."""
    x = backend.array([0.3, -1, 2])

    def f(x: Any) -> Any:
        d = backend.names.OneHotCategorical(logits=x, estimator=estimator)
        return (backend.draw(d, 0) * backend.array([1.0, 2, 3])).sum() ** 2

    if backend.framework == "pyro":
        hessian: Any = lambda: torch.autograd.functional.hessian(f, x)  # noqa: E731
        leaf = x.requires_grad_()
        assert torch.autograd.grad(f(leaf), leaf, create_graph=True)[0].isfinite().all()
    else:
        hessian = lambda: jax.jit(jax.hessian(f))(x)  # noqa: E731
    with pytest.raises(NotImplementedError, match="got asked for a second derivative; expected"):
        hessian()
