"""The discrete counterpart of every site, and the frameworks' own ELBOs of the discrete model."""

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_expit, log_softmax

from cases import RELAXED
from harness import Backend
from languages import Language

LOGITS = np.array([[0.3, -1.0, 0.5], [0.0, 2.0, -0.4]])
BITS = np.array([0.7, -1.2])
X, LOCS = np.array([0.4, -0.8]), np.array([-1.0, 0.0, 1.5])


def distributions(backend: Backend) -> list[tuple[Any, bool]]:
    """A relaxed or an estimated distribution of each class, and whether its values are one-hot."""
    names, found = backend.names, []
    for name in RELAXED:
        one_hot = "OneHot" in name
        found.append(
            (getattr(names, name)(0.7, logits=backend.array(LOGITS if one_hot else BITS)), one_hot)
        )
    for estimator in (names.StraightThrough(), names.GumbelSoftmax(0.5, hard=False)):
        found.append(
            (names.OneHotCategorical(logits=backend.array(LOGITS), estimator=estimator), True)
        )
        found.append((names.Bernoulli(logits=backend.array(BITS), estimator=estimator), False))
    dist = backend.dist
    found.append((dist.RelaxedBernoulli(backend.array(0.7), logits=backend.array(BITS)), False))
    if hasattr(dist, "RelaxedOneHotCategorical"):
        for distribution in (
            dist.RelaxedOneHotCategorical,
            dist.RelaxedOneHotCategoricalStraightThrough,
        ):
            found.append((distribution(backend.array(0.7), logits=backend.array(LOGITS)), True))
        found.append((dist.OneHotCategoricalStraightThrough(logits=backend.array(LOGITS)), True))
    return found


def hardened(value: np.ndarray, distribution: Any) -> np.ndarray:
    """The hard value that a model computes from a site's value."""
    name = type(distribution).__name__
    if name.startswith("Log"):
        return np.exp(value) if "OneHot" in name else expit(value)
    return value


def test_each_site_draws_from_its_counterpart(
    backend: Backend, language: Language, seed: int
) -> None:
    """Values are hard and scored by the discrete distribution, in a plate and in wrappers."""
    for distribution, one_hot in distributions(backend):

        def model(distribution: Any = distribution) -> None:
            with language.plate("rows", 5, dim=-1):
                language.sample("z", distribution.to_event(1))

        site = language.trace(backend.names.discretize(model), seed)["z"]
        value = hardened(backend.numpy(site["value"]), site["fn"].base_dist)
        assert set(np.unique(value)) <= {0.0, 1.0}, distribution
        got = backend.numpy(site["fn"].log_prob(site["value"]))
        if one_hot:
            assert (value.sum(-1) == 1).all(), distribution
            expected = (value * log_softmax(LOGITS, -1)).sum((-1, -2))
        else:
            expected = (log_expit(BITS) * value + log_expit(-BITS) * (1 - value)).sum(-1)
        assert got.shape == (5,)
        np.testing.assert_allclose(got, expected, rtol=1e-6, err_msg=str(distribution))


def test_other_sites_stay(backend: Backend, language: Language) -> None:
    """Continuous and plain discrete distributions and observed sites are the very same objects."""
    names, dist = backend.names, backend.dist
    zero, one = backend.array(0.0), backend.array(1.0)
    unchanged = {
        "normal": dist.Normal(zero, one),
        "ours": names.Bernoulli(probs=one / 2),
        "theirs": dist.Bernoulli(probs=one / 2),
        "categorical": dist.Categorical(probs=backend.array([0.5, 0.5])),
    }
    seen = names.RelaxedBernoulli(0.5, logits=zero)

    @names.discretize
    def model() -> None:
        for name, distribution in unchanged.items():
            language.sample(name, distribution)
        language.sample("seen", seen, obs=one / 3)

    trace = language.trace(model, 0)
    assert {name: trace[name]["fn"] for name in unchanged} == unchanged
    assert trace["seen"]["fn"] is seen


def test_as_a_context_manager(backend: Backend, language: Language) -> None:
    """The sites inside the context are discrete; those after it are not."""
    distribution = backend.names.RelaxedBernoulli(0.5, logits=backend.array(BITS))

    def model() -> None:
        with backend.names.discretize():
            language.sample("within", distribution)
        language.sample("after", distribution)

    trace = language.trace(model, 0)
    assert type(trace["within"]["fn"]) is backend.names.Bernoulli
    assert trace["after"]["fn"] is distribution


def test_the_log_distributions(backend: Backend, seed: int) -> None:
    """The discrete distributions in log or logit space have enumeration, entropy, KL and mode."""
    module = importlib.import_module(f"relaxed_dists_{backend.framework}.infer.discretize")
    for name, parent, given in (
        ("LogOneHotCategorical", "OneHotCategorical", LOGITS),
        ("LogitBernoulli", "Bernoulli", BITS),
    ):
        distribution, other = (
            getattr(module, name)(logits=backend.array(x)) for x in (given, given / 3)
        )
        plain, plain_other = (
            getattr(backend.names, parent)(logits=backend.array(x)) for x in (given, given / 3)
        )
        support = distribution.enumerate_support()
        masses = backend.numpy(distribution.log_prob(support))
        np.testing.assert_allclose(np.exp(masses).sum(0), 1, rtol=1e-12)
        np.testing.assert_allclose(masses, backend.numpy(plain.log_prob(plain.enumerate_support())))
        # -sum p log p, and sum p (log p - log q), over the support.
        np.testing.assert_allclose(
            backend.numpy(distribution.entropy()), -(np.exp(masses) * masses).sum(0), rtol=1e-9
        )
        others = backend.numpy(other.log_prob(support))
        expected = (np.exp(masses) * (masses - others)).sum(0)
        np.testing.assert_allclose(backend.kl(distribution, other), expected, rtol=1e-9)
        mode = hardened(backend.numpy(distribution.mode), distribution)
        assert (mode == backend.numpy(plain.mode)).all()
        with pytest.raises(ValueError, match="whose values are of different spaces"):
            backend.divergence(distribution, plain_other)
        with pytest.raises(ValueError, match=r"expected (logs of one-hot|infinite numbers)"):
            distribution.log_prob(backend.array(given / 5))
        for moment in ("mean", "variance"):
            with pytest.raises(NotImplementedError, match="no mean and no variance"):
                getattr(distribution, moment)


def test_a_transformed_relaxed_distribution_is_refused(
    backend: Backend, language: Language
) -> None:
    """A transformed distribution raises an error that says to apply the transform in the model."""
    base = backend.names.LogitRelaxedBernoulli(0.5, logits=backend.array(BITS))
    distribution = language.sigmoid_of(base)
    with pytest.raises(ValueError, match="site 'z', whose distribution is made from a relaxed one"):
        language.trace(backend.names.discretize(lambda: language.sample("z", distribution)), 0)


def pair(backend: Backend, language: Language, relaxed: bool, ending: str = "") -> tuple[Any, Any]:
    """A model of two data and its guide: a category and a bit for each, in log and logit space."""
    names = backend.names

    def estimated(logits: Any) -> Any:
        if relaxed:
            return names.ExpRelaxedOneHotCategorical(0.4, logits=logits)
        return names.OneHotCategorical(logits=logits)

    def bit(logits: Any) -> Any:
        return (
            names.LogitRelaxedBernoulli(0.4, logits=logits)
            if relaxed
            else names.Bernoulli(logits=logits)
        )

    def model() -> None:
        with language.plate("data", 2, dim=-1):
            z = language.sample("z", estimated(backend.array(np.zeros(3))))
            b = language.sample("b", bit(backend.array(-0.5)))
            if relaxed:
                z, b = language.exp(z), language.sigmoid(b)
            loc = (z * backend.array(LOCS)).sum(-1) + b
            language.sample("x", language.normal(loc, backend.array(1.0)), obs=backend.array(X))

    def guide() -> None:
        with language.plate("data", 2, dim=-1):
            language.sample("z" + ending, estimated(backend.array(LOGITS)))
            language.sample("b" + ending, bit(backend.array(BITS)))

    return model, guide


def exact_elbo() -> float:
    """The ELBO of the discrete `pair`, as a sum over all values of log p(x, z, b) - log q(z, b)."""
    total = 0.0
    for i, (k, b) in itertools.product(range(2), itertools.product(range(3), range(2))):
        log_q = log_softmax(LOGITS[i])[k] + log_expit(BITS[i] if b else -BITS[i])
        log_p = -math.log(3) + log_expit(-0.5 if b else 0.5)
        log_p += -0.5 * (X[i] - LOCS[k] - b) ** 2 - 0.5 * math.log(2 * math.pi)
        total += math.exp(log_q) * (log_p - log_q)
    return total


@pytest.mark.parametrize("how", ["plain", "relaxed", "relax"])
def test_the_frameworks_elbos_score_the_discrete_model(
    backend: Backend, language: Language, how: str, seed: int
) -> None:
    """With 4,000 particles, ELBOs are within 5 standard errors of enumeration (false alarms 1e-6).

    A standard error is 0.027, while the bound of the relaxed model is 0.63 away. Pyro's
    TraceMeanField_ELBO can't have a discrete guide, so TraceEnum_ELBO replaces it.
    """
    model, guide = pair(backend, language, how == "relaxed")
    if how == "relax":
        model = backend.names.relax(model, 0.5)
        _, guide = pair(backend, language, True, "_relaxed")
    model, guide = map(backend.names.discretize, (model, guide))
    # TraceEnum_ELBO itself fails on Pyro's deterministic sites in float64.
    for elbo in ["Trace_ELBO"] + [language.mean_field] * (how != "relax"):
        got = language.elbo(elbo, model, guide, seed, 4000)
        assert abs(got - exact_elbo()) < 5 * 0.03
