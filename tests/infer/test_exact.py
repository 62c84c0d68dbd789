"""The exact evidence, by the frameworks' enumeration, against sums over all values."""

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.special import log_expit, logsumexp
from scipy.stats import norm

from harness import Backend
from languages import Language
from machinery import EVERY, event_dim, made

X = np.array([0.4, -0.8, 1.7])
LOCS, PRIOR = np.array([-1.0, 0.0, 1.5]), np.log([0.5, 0.3, 0.2])


@pytest.fixture
def language(backend: Backend) -> Language:
    """The framework's statements, if its enumeration is installed."""
    if backend.framework == "numpyro":
        pytest.importorskip("funsor")
    return backend.language


def model(language: Language, how: str) -> Any:
    """A model with a bit for all data and a category for each datum, discrete or relaxed."""
    names, array = language.backend.names, language.backend.array
    zero = array(0.0)

    def one_hot() -> Any:
        logits = array(PRIOR)
        if how == "logs":
            return names.ExpRelaxedOneHotCategorical(0.5, logits=logits)
        if how == "soft":
            return names.RelaxedOneHotCategorical(0.5, logits=logits)
        return names.OneHotCategorical(logits=logits)

    def call(temperature: float = 0.0) -> None:
        distribution = names.LogitRelaxedBernoulli if how == "logs" else None
        bit = (
            distribution(0.5, logits=zero - 0.4)
            if distribution
            else names.Bernoulli(logits=zero - 0.4)
        )
        top = language.sample("top", bit)
        top = language.sigmoid(top) if how == "logs" else top
        with language.plate("data", len(X), -1):
            z = language.sample("z", one_hot())
            z = language.exp(z) if how == "logs" else z
            loc = (z * array(LOCS)).sum(-1) + top
            language.sample("x", language.normal(loc, zero + 1), obs=array(X))

    return names.relax(call, 0.5) if how == "relax" else call


def summed() -> float:
    """The log evidence, summed over the bit and, for each datum, the category."""
    parts = []
    for bit in (0, 1):
        inner = PRIOR + norm.logpdf(X[:, None], LOCS + bit)
        parts.append(log_expit(-0.4 if bit else 0.4) + logsumexp(inner, -1).sum())
    return float(logsumexp(parts))


@pytest.mark.parametrize("how", ["plain", "soft", "logs", "relax"])
def test_the_sum_over_all_values(language: Language, how: str) -> None:
    """The evidence is the sum over all values for all kinds of distribution, to 1e-9."""
    np.testing.assert_allclose(language.exact(model(language, how)), summed(), rtol=1e-9)


def test_the_frameworks_own_distributions(language: Language) -> None:
    """A site of the framework's Categorical, whose values are integers, can be enumerated."""
    dist = importlib.import_module(f"{language.backend.framework}.distributions")
    array = language.backend.array

    def call() -> None:
        k = language.sample("k", dist.Categorical(logits=array(PRIOR)))
        language.sample("x", language.normal(array(LOCS)[k], array(1.0)), obs=array(0.3))

    expected = logsumexp(PRIOR + norm.logpdf(0.3, LOCS))
    np.testing.assert_allclose(language.exact(call), expected, rtol=1e-9)


def test_a_temperature_may_be_given(language: Language) -> None:
    """The temperature reaches a model that takes it."""
    got = language.exact(model(language, "plain"), temperature=0.5)
    np.testing.assert_allclose(got, summed(), rtol=1e-9)


def test_what_cannot_be_enumerated_is_refused(language: Language) -> None:
    """Continuous sites, several dimensions in one event, and scaled sites raise."""
    names, array = language.backend.names, language.backend.array

    def continuous() -> None:
        language.sample("z", language.normal(array(0.0), array(1.0)))

    with pytest.raises(ValueError, match="site 'z' of Normal; expected a discrete distribution"):
        language.exact(continuous)

    def wide() -> None:
        language.sample("z", names.Bernoulli(logits=array(np.zeros(3))).to_event(1))

    with pytest.raises(ValueError, match="Write the dimensions that to_event holds as plates"):
        language.exact(wide)

    def part() -> None:
        with language.plate("data", 4, -1, 2):
            language.sample("z", names.Bernoulli(logits=array(0.0)))

    with pytest.raises(ValueError, match=r"the site 'z' with the scale 2\.0; expected 1"):
        language.exact(part)


ENUMERABLE = [n for n in EVERY if "Permutation" not in n and n != "HardConcrete"]


@pytest.mark.parametrize("how", ["distribution", "handler", "false"])
@pytest.mark.parametrize("name", ENUMERABLE)
def test_a_masked_row_adds_nothing(language: Language, name: str, how: str) -> None:
    """The evidence with masked rows is the sum over all values in the unmasked rows, to 1e-9."""
    backend, array = language.backend, language.backend.array
    rows = array([True, False], "bool")

    def call() -> None:
        with language.plate("data", 2, -1):
            d = made(backend, name)
            if how == "handler":
                with language.mask(rows):
                    z = language.sample("z", d)
            else:
                z = language.sample("z", d.mask(rows if how == "distribution" else False))
            if name.startswith("Logit"):
                z = language.sigmoid(z)
            elif name.startswith("Exp"):
                z = language.exp(z)
            loc = (z * array(LOCS)).sum(-1) if event_dim(name) else z
            x = language.normal(loc, array(1.0)).mask(rows)
            language.sample("x", x, obs=array(X[:2]))

    discrete = made(backend, name)
    discrete = getattr(discrete, "discrete", discrete)
    values = discrete.enumerate_support()
    masses = backend.numpy(discrete.log_prob(values))
    locs = backend.numpy(values) @ LOCS if event_dim(name) else backend.numpy(values)
    expected = logsumexp(masses[:, 0] + norm.logpdf(X[0], locs[:, 0]))
    np.testing.assert_allclose(language.exact(call), expected, rtol=1e-9)


def test_numpyro_without_funsor() -> None:
    """Without funsor the error names the extra to install."""
    pytest.importorskip("numpyro")
    code = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}\n"
    code += "sys.modules['funsor'] = None\nfrom relaxed_dists.numpyro import exact_evidence\n"
    code += "exact_evidence({}, lambda: None)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'relaxed-dists[enumeration]'" in result.stderr


def test_a_long_chain_takes_no_more_memory_a_step() -> None:
    """Forty steps of pyro.markov, with a deterministic site in each, give the forward sum.

    All values of the states together, 3**40 of them, would fit into no memory.
    """
    pyro = pytest.importorskip("pyro")
    torch = pytest.importorskip("torch")
    names = importlib.import_module("relaxed_dists.pyro")
    transition = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))

    def chain() -> None:
        rows, locs, data = (torch.tensor(a, dtype=torch.float32) for a in (transition, LOCS, x))
        with pyro.plate("sequences", 2):
            z = torch.full((3,), 1 / 3)
            for t in pyro.markov(range(len(x))):
                z = pyro.sample(f"z_{t}", names.OneHotCategorical(probs=z @ rows))
                loc = pyro.deterministic(f"loc_{t}", (z * locs).sum(-1))
                pyro.sample(f"x_{t}", pyro.distributions.Normal(loc, 1.0), obs=data[t])

    mass = np.full((2, 3), np.log(1 / 3))
    for row in x:
        each = norm.logpdf(row[:, None], LOCS)
        mass = logsumexp(mass[..., None] + np.log(transition), 1) + each
    np.testing.assert_allclose(names.exact_evidence(chain), logsumexp(mass, 1).sum(), rtol=1e-5)
