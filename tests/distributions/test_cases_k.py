"""Divergences, moments, has_rsample and AutoRelaxed, in cases that are easily wrong."""

import importlib
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from cases import CASES
from harness import Backend
from languages import Language
from machinery import EVERY, NO_RSAMPLE, made, numbers, with_logits

INF = np.inf


def theirs(backend: Backend) -> Any:
    """The framework's own distributions."""
    return backend.dist


# K1: tests of shapes that do not broadcast.

PAIRED = [case.name for case in CASES] + ["HardConcrete", "OneHotCategorical", "Bernoulli"]


def shaped(backend: Backend, name: str, *shape: int) -> Any:
    """A distribution with logits of a shape."""
    temperature = () if name in ("OneHotCategorical", "Bernoulli") else (0.5,)
    return getattr(backend.names, name)(*temperature, logits=backend.array(np.zeros(shape)))


@pytest.mark.parametrize("name", PAIRED)
def test_k1_divergence_of_unlike_shapes(backend: Backend, name: str) -> None:
    """The KL raises for different numbers of categories, and for batches that don't broadcast."""
    rows = "OneHot" in name
    pairs = [((5,), (1,)), ((1,), (5,)), ((5,), (4,))] if rows else []
    pairs += [((2, 4), (3, 4))] if rows else [((2,), (3,)), ((2, 3), (2, 1, 2))]
    for p, q in pairs:
        split = len(p) - rows
        text = rf"kl_divergence got {name} of batch shape \({', '.join(map(str, p[:split]))},?\) "
        with pytest.raises(ValueError, match=text + r"and event shape .*; expected the same event"):
            backend.kl(shaped(backend, name, *p), shaped(backend, name, *q))
    if name not in ("OneHotCategorical", "RelaxedBernoulli"):
        return
    fits = ((3, 1, 4), (2, 4)) if rows else ((3, 1), (2,))
    zeros = backend.kl(*(shaped(backend, name, *shape) for shape in fits))
    np.testing.assert_allclose(zeros, np.zeros((3, 2)), atol=1e-12)


def test_k1_divergence_from_the_frameworks_own(backend: Backend) -> None:
    """The KL with the framework's own classes raises too, for either order of the arguments."""
    p, own = shaped(backend, "Bernoulli", 2), theirs(backend)
    pairs = [(p, own.Bernoulli(logits=backend.array(np.zeros(3))))]
    if backend.framework == "pyro":
        hot = own.OneHotCategorical(logits=backend.array(np.zeros(1)))
        pairs.append((shaped(backend, "OneHotCategorical", 5), hot))
    for left, right in pairs:
        for x, y in ((left, right), (right, left)):
            with pytest.raises(ValueError, match=r"kl_divergence got .* expected the same event"):
                backend.kl(x, y)


# K2: tests of the KL with the framework's own distributions at probs of exactly 0 and 1.


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The KL of Bernoulli distributions: the sum of p log p / q, where 0 log 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(x == 0, 0.0, x * np.log(x / y)) for x, y in ((p, q), (1 - p, 1 - q))]
    return terms[0] + terms[1]


def test_k2_divergence_at_certain_probs(backend: Backend) -> None:
    """The KL is exact, also inf and 0, though the frameworks clamp probs to get logits."""
    p, q = (x.ravel() for x in np.meshgrid([0.0, 0.3, 1.0], [0.0, 0.6, 1.0]))
    distributions = [
        [make_bernoulli(probs=backend.array(x)) for x in (p, q)]
        for make_bernoulli in (backend.names.Bernoulli, theirs(backend).Bernoulli)
    ]
    expected = bernoulli_kl(p, q)
    np.testing.assert_allclose(
        backend.kl(distributions[0][0], distributions[1][1]), expected, rtol=1e-12
    )
    np.testing.assert_allclose(
        backend.kl(distributions[1][0], distributions[0][1]), expected, rtol=1e-12
    )
    if backend.framework == "numpyro":
        return
    a, b = np.array([[0.0, 0.4, 0.6], [0.0, 0.4, 0.6]]), np.array([[0.5, 0.2, 0.3], [0.0, 1.0, 0]])
    hot = [
        [make_hot(probs=backend.array(x)) for x in (a, b)]
        for make_hot in (backend.names.OneHotCategorical, theirs(backend).OneHotCategorical)
    ]
    first = 0.4 * np.log(2) + 0.6 * np.log(2)
    for one, other in ((0, 1), (1, 0)):
        np.testing.assert_allclose(backend.kl(hot[one][0], hot[other][1]), [first, INF])
        backwards = backend.kl(hot[one][1], hot[other][0])
        np.testing.assert_allclose(backwards, [INF, -np.log(0.4)])


def test_k2_gradients_at_certain_probs(backend: Backend) -> None:
    """Gradients are finite; between 0 and 1, the gradient by p is log(p (1 - q) / ((1 - p) q))."""
    p, q = np.array([0.3, 0.0, 1.0, 0.3]), np.array([0.6, 0.6, 0.6, 1.0])
    ours, own = backend.names.Bernoulli, theirs(backend).Bernoulli
    for make_p, make_q in ((ours, own), (own, ours)):

        def divergence(x: Any, y: Any, make_p: Any = make_p, make_q: Any = make_q) -> Any:
            return backend.divergence(make_p(probs=x), make_q(probs=y)).sum()

        by_p, by_q = backend.grad(divergence, backend.array(p), backend.array(q))
        assert np.isfinite(by_p).all()
        assert np.isfinite(by_q).all()
        np.testing.assert_allclose(by_p[0], np.log(0.3 * 0.4 / (0.7 * 0.6)), rtol=1e-6)
        np.testing.assert_allclose(by_q[:2], [0.7 / 0.4 - 0.3 / 0.6, 1 / 0.4], rtol=1e-6)


# K3: a test of equal temperatures without a batch.


def test_k3_divergence_without_a_batch(backend: Backend) -> None:
    """The KL of logits d apart is d^2 / 6, more precise than by the general quadrature.

    In float32 the quadrature has errors of 1e-7. The derivative by the logits is d / 3; that by a
    temperature comes from the general formula.
    """
    d, t, names = 1e-6, 0.4, backend.names

    def divergence(x: Any, t: Any) -> Any:
        prior = names.LogitRelaxedBernoulli(0.4, logits=backend.array(0.0, "float32"))
        return backend.divergence(names.LogitRelaxedBernoulli(t, logits=x), prior)

    x, temperature = backend.array(d, "float32"), backend.array(t, "float32")
    np.testing.assert_allclose(backend.numpy(divergence(x, temperature)), d * d / 6, rtol=1e-5)
    slope = backend.grad(lambda x: divergence(x, temperature), x)[0]
    np.testing.assert_allclose(slope, d / 3, rtol=1e-5)

    def far(t: Any) -> Any:
        p = names.LogitRelaxedBernoulli(t, logits=backend.array(1.3))
        return backend.divergence(p, names.LogitRelaxedBernoulli(0.4, logits=backend.array(0.0)))

    h, temperature = 1e-5, backend.array(t)
    ends = [backend.numpy(far(backend.array(t + s))) for s in (h, -h)]
    np.testing.assert_allclose(
        backend.grad(far, temperature)[0], (ends[0] - ends[1]) / (2 * h), rtol=1e-6
    )


# K4, K5: tests in half precision.


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_k4_cdf_of_a_copy_in_the_halves(backend: Backend, dtype: str) -> None:
    """The cdf is right to the rounding of its result, 0.4 % in bfloat16, also near 1."""
    logits = np.array([-22.0, -3.5, 16.5, 22.0])
    value = backend.array(np.array([0.004, 0.3, 0.984375, 0.99609375]), dtype)
    distribution = backend.names.RelaxedBernoulli(4.0, logits=backend.array(logits, dtype))
    exact = backend.numpy(value)
    expected = expit(4 * (np.log(exact) - np.log1p(-exact)) - logits)
    rounding = 2.0**-8 if dtype == "bfloat16" else 2.0**-10
    np.testing.assert_allclose(backend.numpy(distribution.cdf(value)), expected, rtol=rounding)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_k5_modes_in_the_halves(backend: Backend, dtype: str) -> None:
    """With masks, modes equal those in double precision, and have the values' dtype."""
    names = backend.names
    scores = np.array([[-INF, 2.0, 3.0], [1.0, 0.5, 4.0], [0.0, 0.25, 0.125]])
    matching = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    for distribution in (
        names.Permutation(logits=backend.array(scores, dtype)),
        names.RelaxedPermutation(0.5, logits=backend.array(scores, dtype), hard=True),
    ):
        assert distribution.mode.dtype == backend.array(0.0, dtype).dtype
        np.testing.assert_array_equal(backend.numpy(distribution.mode), matching)
    row = backend.array([-INF, 2.0, 3.0, 1.0], dtype)
    for distribution, mode in (
        (names.Subset(2, logits=row), [0, 1, 1, 0]),
        (names.OneHotCategorical(logits=row), [0, 0, 1, 0]),
    ):
        assert distribution.mode.dtype == row.dtype
        np.testing.assert_array_equal(backend.numpy(distribution.mode), mode)


# K8, F3: tests of has_rsample and arg_constraints, which the frameworks use.


@pytest.mark.parametrize("name", EVERY)
def test_f3_rsample_is_where_a_gradient_is(backend: Backend, name: str) -> None:
    """has_rsample is true if and only if rsample has a gradient, also in wrappers."""
    logits = numbers(name)
    weights = backend.array(np.random.default_rng(0).normal(size=logits.shape))
    has, distribution = name not in NO_RSAMPLE, made(backend, name)
    for wrapped in (
        distribution,
        distribution.to_event(1),
        distribution.expand((3, 2)),
        distribution.mask(False),
    ):
        assert wrapped.has_rsample is has

    def total(x: Any) -> Any:
        draw = backend.draw(with_logits(backend, name, x).expand((3, 2)).to_event(1), 0, (20,))
        return (draw * weights).sum() + 0 * x.sum()

    (gradient,) = backend.grad(backend.compiled(total), backend.array(logits))
    assert (np.abs(gradient).max() > 0.01) == has
    call = (importlib.import_module("jax").random.key(0),) if backend.framework == "numpyro" else ()
    if has:
        assert distribution.rsample(*call).shape == logits.shape
    else:
        with pytest.raises(NotImplementedError, match=f"{name} has no rsample.*; expected"):
            distribution.rsample(*call)


def test_f3_permutations_under_trace_graph_elbo(backend: Backend, language: Language) -> None:
    """TraceGraph_ELBO's gradient equals Trace_ELBO's at the same draws, and is not 0."""
    names = backend.names
    cost = backend.array([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0], [1.0, 2.0, 0.5]])
    mean = backend.array(np.zeros((3, 3)))
    start = backend.array(np.random.default_rng(0).normal(size=(3, 3)))
    infer = backend.infer

    def model(logits: Any) -> None:
        distribution = names.RelaxedPermutation(0.7, logits=mean).mask(False)
        z = language.sample("z", distribution)
        language.sample("x", language.normal((z * cost).sum(), 1.0), obs=backend.array(0.0))

    def guide(logits: Any) -> None:
        language.sample("z", names.RelaxedPermutation(0.7, logits=logits).mask(False))

    found = []
    for name in ("Trace_ELBO", "TraceGraph_ELBO"):
        elbo = getattr(infer, name)()

        def loss(logits: Any, elbo: Any = elbo) -> Any:
            if backend.framework == "pyro":
                importlib.import_module("pyro").set_rng_seed(0)
                return elbo.differentiable_loss(model, guide, logits)
            key = importlib.import_module("jax").random.key(0)
            return elbo.loss(key, {}, model, guide, logits)

        found.append(gradient_of(backend, loss, elbo, start, model, guide))
    assert np.abs(found[0]).max() > 0.01
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def gradient_of(
    backend: Backend, loss: Any, elbo: Any, start: Any, model: Any, guide: Any
) -> np.ndarray:
    """The loss's gradient; Pyro's TraceGraph_ELBO has only loss_and_grads."""
    if backend.framework == "numpyro" or hasattr(elbo, "differentiable_loss"):
        return backend.grad(loss, start)[0]
    leaf = start.detach().clone().requires_grad_()
    importlib.import_module("pyro").set_rng_seed(0)
    elbo.loss_and_grads(model, guide, leaf)
    return backend.numpy(leaf.grad)


@pytest.mark.parametrize("name", EVERY)
def test_k8_argument_constraints_name_the_parameters(backend: Backend, name: str) -> None:
    """arg_constraints has all parameters of a class, and each satisfies its constraint."""
    distribution, matrices = made(backend, name), "Permutation" in name
    taken = {"logits"} | (set() if matrices else {"probs"})
    if getattr(distribution, "temperature", None) is not None:
        taken.add("temperature")
    assert set(distribution.arg_constraints) == taken
    for parameter, constraint in distribution.arg_constraints.items():
        value = getattr(distribution, parameter)
        check = constraint.check if backend.framework == "pyro" else constraint
        assert bool(check(value).all())
    if backend.framework == "numpyro":
        assert set(distribution.get_args()) == taken
        distribution.validate_args()


# K9, K10: tests of the models that AutoRelaxed accepts.


@pytest.mark.parametrize("probs", [[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
def test_k9_auto_relaxed_of_a_site_with_an_estimator(
    backend: Backend, language: Language, probs: list[float]
) -> None:
    """AutoRelaxed treats a site with an estimator like other discrete ones, and keeps its zeros."""
    names = backend.names

    def model() -> None:
        distribution = names.OneHotCategorical(
            probs=backend.array(probs), estimator=names.StraightThrough()
        )
        z = language.sample("z", distribution)
        place = (z * backend.array([0.0, 1.0, 2.0])).sum()
        language.sample("x", language.normal(place, 0.5), obs=backend.array(1.0))

    guide = names.AutoRelaxed(model, estimator=names.GumbelSoftmax(0.5))
    values = language.trace(guide, 0)
    assert values["z"]["fn"].has_rsample
    if backend.framework == "pyro":
        posterior = guide.discrete_posterior()
    else:
        logits = backend.array(np.zeros(3))
        posterior = guide.discrete_posterior({"z_auto_logits": logits})
    expected = np.array(probs) / np.sum(probs)
    np.testing.assert_allclose(backend.numpy(posterior["z"].probs), expected, rtol=1e-6)


@pytest.mark.parametrize("other", [False, True])
def test_k10_auto_relaxed_names_the_way_for_gates(
    backend: Backend, language: Language, other: bool
) -> None:
    """No autoguide draws gates: the errors say to write a guide, and that guide runs.

    The error of AutoRelaxed must not name AutoNormal, which refuses gates as well.
    """
    names, zero = backend.names, backend.array(np.zeros(2))
    autoguide = backend.autoguide

    def model() -> None:
        total = language.sample("g", names.HardConcrete(0.5, logits=zero).to_event(1)).sum()
        if other:
            total = total + language.sample("z", names.Bernoulli(logits=zero[0]))
        language.sample("x", language.normal(total, 0.5), obs=backend.array(1.0))

    refused = (
        r"AutoRelaxed got the latent sites \{'g': 'HardConcrete'\}, which neither it nor another "
        r"autoguide can draw; expected .* Write a guide that draws 'g' from HardConcrete as well"
    )
    theirs = "an autoguide got a site of HardConcrete.*; expected .* Write a guide that draws"
    estimator = names.GumbelSoftmax(0.5)
    for continuous in (None, autoguide.AutoNormal):
        guide = names.AutoRelaxed(model, estimator, continuous)
        with pytest.raises(ValueError, match=theirs if continuous and other else refused):
            language.trace(guide, 0)
    with pytest.raises(ValueError, match=theirs):
        language.trace(autoguide.AutoNormal(model), 0)
    if not other:
        return
    block = backend.handlers.block
    auto = names.AutoRelaxed(block(model, hide=["g"]), estimator)

    def written() -> None:
        language.sample("g", names.HardConcrete(0.5, logits=zero).to_event(1))
        auto()

    assert {"g", "z"} <= language.trace(written, 0).keys()
