"""log_prob: against the papers, NumPy, the frameworks' own classes and quadrature, in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from cases import CASES, DISCRETE, Case, interior, parameters
from harness import BACKENDS, Backend
from numpy_ops import NumpyOps
from relaxed_dists._distributions import bernoulli, one_hot

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
temperatures = st.sampled_from([0.1, 0.5, 2 / 3, 1.0, 3.0])


def log_prob(backend: Backend, case: Case, t: object, logits: object, value: object) -> np.ndarray:
    """Our log density of values that are made from numbers, not drawn."""
    distribution = getattr(backend.names, case.name)(backend.array(t), logits=backend.array(logits))
    return backend.numpy(distribution.log_prob(backend.array(value)))


@cases
def test_density_is_the_papers(backend: Backend, case: Case) -> None:
    """log_prob is the paper's closed form, to 1e-10, over shapes, logits and temperatures."""

    @given(
        seed=st.integers(0, 10**6),
        k=st.sampled_from([2, 5]),
        n=st.sampled_from([1, 4]),
        t=temperatures,
    )
    def check(seed: int, k: int, n: int, t: float) -> None:
        rng = np.random.default_rng(seed)
        logits, x = parameters(rng, case.one_hot, k, (n,)), interior(rng, case, k, n)
        expected = np.log(case.density(logits, np.full(n, t), x))
        ours = log_prob(backend, case, t, logits, case.to_value(x))
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)

    check()


@cases
def test_density_is_numpys(backend: Backend, case: Case) -> None:
    """The shared formulas give the same numbers in NumPy, at a temperature for each row."""
    rng, ops = np.random.default_rng(0), NumpyOps()
    logits, x, t = (
        parameters(rng, case.one_hot, 5, (3,)),
        interior(rng, case, 5, 3),
        [0.1, 1.0, 7.0],
    )
    formula = {
        "ExpRelaxedOneHotCategorical": one_hot.exp_concrete_log_prob,
        "RelaxedOneHotCategorical": one_hot.concrete_log_prob,
        "LogitRelaxedBernoulli": bernoulli.logit_concrete_log_prob,
        "RelaxedBernoulli": bernoulli.binary_concrete_log_prob,
    }[case.name]
    value = case.to_value(x)
    expected = formula(ops, logits, np.array(t), case.to_log(value))
    np.testing.assert_allclose(log_prob(backend, case, t, logits, value), expected, rtol=1e-12)


@cases
def test_density_is_the_frameworks_own(case: Case) -> None:
    """log_prob is that of torch's classes, in the interior, where torch's classes are right."""
    dist = pytest.importorskip("torch.distributions")
    from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

    own = {"ExpRelaxedOneHotCategorical": ExpRelaxedCategorical}.get(
        case.name, getattr(dist, case.name, None)
    )
    if own is None:
        from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli as own
    backend, rng = BACKENDS["pyro"](), np.random.default_rng(2)
    logits, x = parameters(rng, case.one_hot, 4, (5,)), interior(rng, case, 4, 5)
    value = case.to_value(x)
    theirs = own(backend.array(0.5), logits=backend.array(logits), validate_args=False)
    expected = backend.numpy(theirs.log_prob(backend.array(value)))
    np.testing.assert_allclose(log_prob(backend, case, 0.5, logits, value), expected, rtol=1e-9)


def test_binary_density_far_out(backend: Backend) -> None:
    """log_prob is SciPy's logistic, to 1e-15, though torch's softplus is off by 2e-9 at 20."""
    from scipy.stats import logistic

    d = np.linspace(-39, 39, 500)
    distribution = backend.names.LogitRelaxedBernoulli(
        backend.array(1.0), logits=backend.array(0.0)
    )
    np.testing.assert_allclose(
        backend.numpy(distribution.log_prob(backend.array(d))), logistic.logpdf(d), 1e-15
    )


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_law_by_enumeration(backend: Backend, name: str) -> None:
    """Masses sum to one, and entropy, KL, mean and variance are the sums that define them."""
    rng, cls = np.random.default_rng(3), getattr(backend.names, name)
    rows = name == "OneHotCategorical"
    p, q = (cls(logits=backend.array(parameters(rng, rows, 4, (3,)))) for _ in range(2))
    support = p.enumerate_support()
    points = backend.numpy(support)
    log_p, log_q = (backend.numpy(distribution.log_prob(support)) for distribution in (p, q))
    mass = np.exp(log_p)
    np.testing.assert_allclose(mass.sum(0), 1, rtol=1e-12)
    np.testing.assert_allclose(backend.numpy(p.entropy()), -(mass * log_p).sum(0), rtol=1e-12)
    np.testing.assert_allclose(backend.kl(p, q), (mass * (log_p - log_q)).sum(0), rtol=1e-12)
    weights = mass[..., None] if rows else mass
    np.testing.assert_allclose(backend.numpy(p.mean), (weights * points).sum(0), rtol=1e-12)
    variance = (weights * points**2).sum(0) - (weights * points).sum(0) ** 2
    np.testing.assert_allclose(backend.numpy(p.variance), variance, rtol=1e-10)
    assert points.shape == (4 if rows else 2, 3) + ((4,) if rows else ())
    if rows and backend.framework == "numpyro":
        with pytest.raises(NotImplementedError, match=r"For the values call enumerate_support\(\)"):
            p.enumerate_support(expand=False)
    else:
        assert p.enumerate_support(expand=False).shape == (*points.shape[:1], 1, *points.shape[2:])


@pytest.mark.parametrize("name", DISCRETE)
def test_kl_with_torchs_own(name: str) -> None:
    """The KL with torch's class, in either order, is torch's KL of its own classes."""
    dist, backend = pytest.importorskip("torch.distributions"), BACKENDS["pyro"]()
    rng, ours, theirs = np.random.default_rng(4), getattr(backend.names, name), getattr(dist, name)
    a, b = (backend.array(parameters(rng, name[0] == "O", 4, (3,))) for _ in range(2))
    expected = backend.kl(theirs(logits=a), theirs(logits=b))
    np.testing.assert_allclose(backend.kl(ours(logits=a), theirs(logits=b)), expected, rtol=1e-10)
    np.testing.assert_allclose(backend.kl(theirs(logits=a), ours(logits=b)), expected, rtol=1e-10)


def test_kl_with_numpyros_own() -> None:
    """The KL with NumPyro's classes is p log(p/q) + (1-p) log((1-p)/(1-q)), in either order."""
    dist = pytest.importorskip("numpyro.distributions")
    backend = BACKENDS["numpyro"]()
    ours, p, q = backend.names.Bernoulli, 0.3, 0.6
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    for other in (dist.BernoulliProbs(q), dist.BernoulliLogits(special.logit(q))):
        np.testing.assert_allclose(backend.kl(ours(probs=p), other), expected, rtol=1e-5)
    for other in (dist.BernoulliProbs(p), dist.BernoulliLogits(special.logit(p))):
        np.testing.assert_allclose(backend.kl(other, ours(probs=q)), expected, rtol=1e-5)
    value = np.array([0.0, 1.0])
    np.testing.assert_allclose(
        backend.numpy(ours(logits=0.7).log_prob(value)),
        backend.numpy(dist.BernoulliLogits(0.7).log_prob(value)),
        rtol=1e-6,
    )


def test_entropy_in_closed_form(backend: Backend) -> None:
    """The binary entropy is that of SciPy's scaled logistic; two categories have the same."""
    from scipy.stats import logistic

    for t in (0.1, 1.0, 4.0):
        expected = logistic(loc=2.0 / t, scale=1 / t).entropy()
        binary = backend.names.LogitRelaxedBernoulli(backend.array(t), logits=backend.array(2.0))
        rows = backend.names.ExpRelaxedOneHotCategorical(t, logits=backend.array([2.0, 0.0]))
        np.testing.assert_allclose(backend.numpy(binary.entropy()), expected, rtol=1e-8)
        np.testing.assert_allclose(backend.numpy(rows.entropy()), expected, rtol=1e-8)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_backends_agree(case: Case) -> None:
    """Both backends compute the same density, to rounding."""
    pytest.importorskip("pyro"), pytest.importorskip("numpyro")
    rng = np.random.default_rng(5)
    logits, x = parameters(rng, case.one_hot, 6, (7,)), interior(rng, case, 6, 7)
    value, t = case.to_value(x), np.linspace(0.1, 3, 7)
    first, second = (made() for made in BACKENDS.values())
    with second.double():
        ours = [log_prob(made, case, t, logits, value) for made in (first, second)]
    np.testing.assert_allclose(*ours, rtol=1e-12, atol=1e-12)
