"""Subsets and permutations in models and guides: losses, exact numbers and errors."""

import importlib
import itertools
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from harness import Backend
from languages import Language
from subsets import orders

WORTH = np.array([1.0, -0.5, 2.0, 0.3])
SEEN = 2.2


def model_of(language: Language, distribution: Any, weights: np.ndarray = WORTH) -> Any:
    """A model with a normal observation around the sum of the chosen weights."""
    array = language.backend.array

    def model() -> None:
        z = language.sample("z", distribution)
        total = (z * array(weights)).sum()
        language.sample("x", language.normal(total, array(1.0)), obs=array(SEEN))

    return model


def loss(language: Language, name: str, model: Any, guide: Any, seed: int, **given: Any) -> Any:
    """A differentiable loss by the ELBO of this name."""
    backend = language.backend
    module = backend.infer
    elbo = getattr(module, name, None) or getattr(backend.names, name)
    if backend.framework == "pyro":
        import pyro

        pyro.set_rng_seed(seed)
        given = {**given, "vectorize_particles": True} if given else {}
        return elbo(**given).differentiable_loss(model, guide)
    import jax

    return elbo(**given).loss(jax.random.key(seed), {}, model, guide)


def distribution(backend: Backend, what: str, logits: Any, **given: Any) -> Any:
    """The relaxed distribution of this name."""
    size = (2,) if what == "Subset" else ()
    return getattr(backend.names, f"Relaxed{what}")(0.5, *size, logits=logits, **given)


@pytest.mark.parametrize("what", ["Subset", "Permutation"])
@pytest.mark.parametrize("elbo", ["Trace_ELBO", "TraceMeanField_ELBO"])
def test_mask_false_counts_as_zero(language: Language, what: str, elbo: str, seed: int) -> None:
    """A site masked in model and guide adds nothing: the likelihood and its gradient remain.

    For the first check the value is almost certain. The gradient agrees with central differences of
    the loss at fixed noise.
    """
    backend = language.backend
    sure = np.array([40.0, 0.0, 40.0, 0.0]) if what == "Subset" else 40 * np.eye(3)[[1, 0, 2]]
    weights = WORTH if what == "Subset" else np.arange(9.0).reshape(3, 3)
    loose = np.random.default_rng(seed).normal(size=sure.shape)

    @backend.compiled
    def objective(logits: Any) -> Any:
        site = distribution(backend, what, logits).mask(False)
        guide = lambda: language.sample("z", site)  # noqa: E731
        return loss(language, elbo, model_of(language, site, weights), guide, seed)

    expected = -stats.norm.logpdf(SEEN, (weights * (sure > 0)).sum())
    found = float(backend.numpy(objective(backend.array(sure))))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    (gradient,) = backend.grad(objective, backend.array(loose))
    steps = 1e-5 * np.eye(loose.size).reshape(-1, *loose.shape)
    slopes = [
        (float(objective(backend.array(loose + s))) - float(objective(backend.array(loose - s))))
        / 2e-5
        for s in steps
    ]
    np.testing.assert_allclose(gradient.ravel(), slopes, rtol=1e-5, atol=1e-7)
    assert abs(gradient).max() > 0


def test_without_a_mask_the_density_is_asked_for(language: Language, seed: int) -> None:
    """Without a mask there is an error, which says what to write."""
    for what, n in (("Subset", (4,)), ("Permutation", (4, 4))):
        site = distribution(language.backend, what, language.backend.array(np.zeros(n)))
        guide = lambda site=site: language.sample("z", site)  # noqa: E731
        with pytest.raises(NotImplementedError, match=r"distribution.mask\(False\)"):
            loss(language, "Trace_ELBO", model_of(language, site), guide, seed)


def test_subsets_are_scored_exactly(language: Language, seed: int) -> None:
    """exact_evidence enumerates; evidence_bounds uses relaxed distributions' discrete counterparts.

    The expected numbers are sums over the six subsets, each a sum over orders; the bound of 4,000
    samples is within 5 standard errors (false alarms: 6e-7).
    """
    pytest.importorskip("funsor")
    backend = language.backend
    prior, posterior = np.array([0.5, 0.0, -1.0, 0.2]), np.array([0.1, -0.4, 1.0, 0.3])
    pairs = list(itertools.combinations(range(4), 2))
    likelihood = stats.norm.logpdf(SEEN, [WORTH[list(pair)].sum() for pair in pairs])
    p, q = (np.log([float(orders(x, pair)) for pair in pairs]) for x in (prior, posterior))
    plain = backend.names.Subset(2, logits=backend.array(prior))

    def enumerated() -> None:
        z = language.sample("z", plain)
        total = (z * backend.array(WORTH)).sum(-1)
        language.sample("x", language.normal(total, backend.array(1.0)), obs=backend.array(SEEN))

    evidence = special.logsumexp(p + likelihood)
    np.testing.assert_allclose(language.exact(enumerated), evidence, rtol=1e-6)

    def relaxed_model() -> None:
        z = language.sample("z", distribution(backend, "Subset", backend.array(prior)))
        total = (z * backend.array(WORTH)).sum(-1)
        language.sample("x", language.normal(total, backend.array(1.0)), obs=backend.array(SEEN))

    def relaxed_guide() -> None:
        language.sample("z", distribution(backend, "Subset", backend.array(posterior)))

    bounds = language.bounds(relaxed_model, relaxed_guide, seed, num_samples=4000)
    expected = (np.exp(q) * (likelihood + p - q)).sum()
    assert abs(bounds.elbo - expected) < 5 * bounds.elbo_error < 0.2
    assert abs(bounds.importance_weighted - evidence) < 5 * bounds.importance_weighted_error


def test_the_score_functions_gradient(language: Language, seed: int) -> None:
    """LeaveOneOut_ELBO of a Subset in model and guide has the gradient of the exact bound.

    The mean over 4,000 particles is within 5.5 standard errors (false alarms: 2e-7), which are sums
    over the six subsets like the bound. Hard relaxed values raise, since their gradient is biased.
    """
    backend, n = language.backend, 4000
    prior, at = np.array([0.5, 0.0, -1.0, 0.2]), np.array([0.1, -0.4, 1.0, 0.3])
    pairs = list(itertools.combinations(range(4), 2))
    likelihood = stats.norm.logpdf(SEEN, [WORTH[list(pair)].sum() for pair in pairs])
    p = np.log([float(orders(prior, pair)) for pair in pairs])

    def log_q(logits: np.ndarray) -> np.ndarray:
        return np.log([float(orders(logits, pair)) for pair in pairs])

    scores = np.array([(log_q(at + s) - log_q(at - s)) / 2e-5 for s in 1e-5 * np.eye(4)])
    f, q = likelihood + p - log_q(at), np.exp(log_q(at))
    exact = (q * f * scores).sum(-1)
    standard_error = np.sqrt((q * ((f - (q * f).sum()) * scores - exact[:, None]) ** 2).sum(-1) / n)

    def model() -> None:
        z = language.sample("z", backend.names.Subset(2, logits=backend.array(prior)))
        total = (z * backend.array(WORTH)).sum(-1)
        language.sample("x", language.normal(total, backend.array(1.0)), obs=backend.array(SEEN))

    @backend.compiled
    def objective(logits: Any) -> Any:
        guide = lambda: language.sample("z", backend.names.Subset(2, logits=logits))  # noqa: E731
        return loss(language, "LeaveOneOut_ELBO", model, guide, seed, num_particles=n)

    hard = distribution(backend, "Subset", backend.array(at), hard=True).mask(False)
    with pytest.raises(ValueError, match=r"LeaveOneOut_ELBO got .* RelaxedSubset, .* is biased"):
        loss(
            language,
            "LeaveOneOut_ELBO",
            model,
            lambda: language.sample("z", hard),
            seed,
            num_particles=2,
        )
    (gradient,) = backend.grad(objective, backend.array(at))
    assert (abs(-gradient - exact) < 5.5 * standard_error).all()
    assert (abs(exact) > 20 * standard_error).any()


def test_discretize(language: Language, seed: int) -> None:
    """Each site draws from its discrete counterpart, in the same wrappers."""
    backend = language.backend
    for what, n in (("Subset", (3, 4)), ("Permutation", (3, 4, 4))):
        site = distribution(backend, what, backend.array(np.zeros(n))).to_event(1).mask(False)
        model = backend.names.discretize(lambda site=site: language.sample("z", site))
        found = language.trace(model, seed)["z"]
        value = backend.numpy(found["value"])
        assert set(value.ravel()) == {0, 1}
        np.testing.assert_array_equal(value.sum(-1), 2 if what == "Subset" else 1)
        assert backend.numpy(found["fn"].log_prob(found["value"])) == 0


def test_mixed_pairs_are_refused(language: Language) -> None:
    """AnnealedSVI raises for a discrete and a relaxed site; pairs of the same kind are allowed."""
    backend = language.backend
    for what, n in (("Subset", (4,)), ("Permutation", (4, 4))):
        soft = distribution(backend, what, backend.array(np.zeros(n)))
        for one, other in itertools.permutations([soft.mask(False), soft.discrete.mask(False)]):

            def guide(temperature: Any, site: Any = other) -> None:
                language.param("w")
                language.sample("z", site)

            def model(temperature: Any, site: Any = one) -> None:
                language.sample("z", site)

            text = rf"site 'z', which the model .*Relaxed{what}\(...\).mask\(False\) in both"
            with pytest.raises(ValueError, match=text):
                language.first_step(model, guide)
        site = soft.mask(False)
        alike = lambda temperature, site=site: guide(None, site)  # noqa: E731
        language.first_step(alike, alike)


def test_what_relaxes_one_hot_sites_refuses_others(language: Language, seed: int) -> None:
    """relax, AutoRelaxed and GumbelSoftmaxReparam raise, and name the distribution."""
    backend, names = language.backend, language.backend.names
    soft = distribution(backend, "Subset", backend.array(np.zeros(4)))
    hard = model_of(language, soft.discrete)
    with pytest.raises(ValueError, match="'z' can't be relaxed: it got a Subset; expected a One"):
        language.trace(names.relax(hard, 0.5), seed)
    with pytest.raises(ValueError, match="AutoRelaxed got the latent site 'z' of Subset"):
        language.trace(names.AutoRelaxed(hard, names.StraightThrough()), seed)
    handlers = backend.handlers
    for what, n in (("Subset", (4,)), ("Permutation", (4, 4))):
        model = model_of(language, distribution(backend, what, backend.array(np.zeros(n))))
        noisy = handlers.reparam(model, config={"z": names.GumbelSoftmaxReparam()})
        with pytest.raises(ValueError, match=f"GumbelSoftmaxReparam got .*Relaxed{what}"):
            language.trace(noisy, seed)


@pytest.mark.parametrize("what", ["Subset", "Permutation"])
def test_samplers_are_refused(language: Language, what: str) -> None:
    """NUTS raises, since the site has no density, masked or not."""
    shape = (4,) if what == "Subset" else (4, 4)
    site = distribution(language.backend, what, language.backend.array(np.zeros(shape)))
    with pytest.raises(NotImplementedError, match=f"got a site of Relaxed{what}, which has no"):
        language.hmc("NUTS", model_of(language, site.mask(False)))


def test_numpyros_enumeration_is_refused() -> None:
    """Enumeration raises, since NumPyro would replace the values by 0, 1, 2 and so on."""
    numpyro = pytest.importorskip("numpyro")
    import jax

    subset = importlib.import_module("relaxed_dists.numpyro").Subset(2, logits=jax.numpy.zeros(3))

    def model() -> None:
        numpyro.sample("z", subset, infer={"enumerate": "parallel"})
        numpyro.sample("x", numpyro.distributions.Normal())

    mcmc = numpyro.infer.MCMC(numpyro.infer.NUTS(model), num_warmup=1, num_samples=1)
    with pytest.raises(NotImplementedError, match="got a Subset, and would give it the numbers"):
        mcmc.run(jax.random.key(0))
