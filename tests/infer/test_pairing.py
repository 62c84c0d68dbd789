"""Errors for pairs of model and guide that can't be trained; they say what to write instead."""

import importlib
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness import Backend
from languages import Language


def distributions(language: Language) -> dict[str, list[Any]]:
    """Distributions of one binary variable by kind, including the framework's own."""
    names, half = language.backend.names, language.backend.array(0.5)
    dist = importlib.import_module(f"{language.backend.framework}.distributions")
    return {
        "relaxed": [
            names.RelaxedBernoulli(0.5, probs=half),
            names.RelaxedBernoulliStraightThrough(0.5, probs=half),
            names.HardConcrete(0.5, probs=half),
            dist.RelaxedBernoulli(half, probs=half),
        ],
        "discrete": [
            names.Bernoulli(probs=half),
            names.Bernoulli(probs=half, estimator=names.StraightThrough()),
            dist.Bernoulli(probs=half),
        ],
    }


def both(language: Language, prior: Any, posterior: Any) -> tuple[Any, Any]:
    """A model and a guide of one site, in a plate and with to_event."""

    def fn(distribution: Any) -> Callable[..., None]:
        def call(temperature: Any) -> None:
            language.param("w")
            with language.plate("rows", 2, -1):
                language.sample("z", distribution.expand((2, 3)).to_event(1))

        return call

    return fn(prior), fn(posterior)


def test_a_mass_beside_a_density_is_refused(language: Language) -> None:
    """A mass and a density raise in either order; the error names the site and three solutions."""
    kinds = distributions(language)
    for relaxed, discrete in itertools.product(kinds["relaxed"], kinds["discrete"]):
        for prior, posterior in ((relaxed, discrete), (discrete, relaxed)):
            with pytest.raises(ValueError, match="AnnealedSVI got the site 'z'") as error:
                language.first_step(*both(language, prior, posterior))
            text = str(error.value)
            for way in (
                "RelaxedBernoulli in both",
                "Bernoulli in both, with an estimator in the guide",
                "relax(model, temperature), whose site is 'z_relaxed'",
                "allow_mixed=['z']",
            ):
                assert way in text


def test_the_right_pairs_are_not_refused(language: Language) -> None:
    """Pairs of two relaxed distributions, or of discrete ones with an estimator, don't raise."""
    kinds = distributions(language)
    language.first_step(*both(language, kinds["relaxed"][0], kinds["relaxed"][1]))
    language.first_step(*both(language, kinds["discrete"][2], kinds["discrete"][1]))


def test_relaxed_distributions_that_round_get_a_warning(language: Language) -> None:
    """AnnealedSVI warns of the framework's own, also on both sides, and not of this library's."""
    names, dist, half = language.backend.names, language.backend.dist, language.backend.array(0.5)
    rounding = [dist.RelaxedBernoulli(half, probs=half)]
    exact = [names.RelaxedBernoulli(0.5, half), names.RelaxedBernoulliStraightThrough(0.5, half)]
    if language.backend.framework == "pyro":
        rounding.append(dist.RelaxedBernoulliStraightThrough(half, probs=half))
        # NumPyro's transformed distributions do not keep the class inside.
        rounding.append(language.sigmoid_of(rounding[0]))
    for distribution in rounding:
        with pytest.warns(UserWarning, match=r"the sites \['z'\], drawn from the") as caught:
            language.first_step(*both(language, distribution, distribution))
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for distribution in exact:
            language.first_step(*both(language, distribution, distribution))


def test_a_mixture_asked_for_by_name(language: Language) -> None:
    """allow_mixed with the site's name allows it; another name does not."""
    kinds = distributions(language)
    mixed = both(language, kinds["discrete"][0], kinds["relaxed"][1])
    language.first_step(*mixed, allow_mixed=["z"])
    with pytest.raises(ValueError, match="AnnealedSVI got the site 'z'"):
        language.first_step(*mixed, allow_mixed=["y"])
    with pytest.raises(ValueError, match=r"allow_mixed='z'; expected a list .* Write \['z'\]"):
        language.first_step(*mixed, allow_mixed="z")


def test_a_mixture_with_a_strict_prior(language: Language) -> None:
    """This library's discrete prior raises for soft values, and says how to allow them."""
    names, half = language.backend.names, language.backend.array(0.5)
    with pytest.raises(
        ValueError, match=r"distribution's \(allow_mixed\) with validate_args=False"
    ):
        names.Bernoulli(probs=half).log_prob(half)
    prior = names.Bernoulli(probs=half, validate_args=False)
    mixed = both(language, prior, names.RelaxedBernoulli(0.5, probs=half))
    language.first_step(*mixed, allow_mixed=["z"])


def test_a_refused_step_is_refused_again(language: Language) -> None:
    """The check is repeated until a step succeeds."""
    kinds = distributions(language)
    step = language.steps(*both(language, kinds["discrete"][0], kinds["relaxed"][0]))
    for _ in range(2):
        with pytest.raises(ValueError, match="AnnealedSVI got the site 'z'"):
            step()


def test_relaxed_models_and_their_guides(language: Language) -> None:
    """relax(model) needs a relaxed guide of its auxiliary site; a discrete guide raises."""
    names = language.backend.names
    prior = distributions(language)["discrete"][0]

    def model(temperature: Any) -> None:
        names.relax(lambda: language.sample("z", prior), temperature)()

    def guide(kind: str) -> Callable[..., None]:
        def call(temperature: Any) -> None:
            language.param("w")
            distribution = getattr(names, kind)
            given = (temperature,) if "Relaxed" in kind else ()
            language.sample("z_relaxed", distribution(*given, probs=language.backend.array(0.5)))

        return call

    language.first_step(model, guide("LogitRelaxedBernoulli"))
    with pytest.raises(ValueError, match="AnnealedSVI got the site 'z_relaxed'") as error:
        language.first_step(model, guide("Bernoulli"))
    assert "whose site is 'z_relaxed'" in str(error.value)


@pytest.mark.parametrize("kernel", ["HMC", "NUTS"])
@pytest.mark.parametrize("name", ["OneHotCategorical", "Bernoulli"])
def test_hmc_refuses_an_estimator(language: Language, kernel: str, name: str) -> None:
    """HMC raises for an estimator, also in wrappers and plates; the error says to use relax."""
    names = language.backend.names
    logits = language.backend.array(np.zeros(3))
    distribution = getattr(names, name)(logits=logits, estimator=names.GumbelSoftmax(0.5))

    def model() -> None:
        with language.plate("rows", 2, -1):
            z = language.sample(
                "z",
                distribution.expand((2, 3)).to_event(1) if name == "Bernoulli" else distribution,
            )
            loc = (z * logits).sum(-1)
            language.sample("x", language.normal(loc, loc + 1), obs=logits[:2])

    with pytest.raises(ValueError, match=r"pathwise estimator; .* relax\(model, temperature\)"):
        language.hmc(kernel, model)


def test_hmc_runs_on_the_relaxed_model(language: Language) -> None:
    """HMC runs on the relaxed model, as the error advises."""
    names, zero = language.backend.names, language.backend.array(0.0)
    distribution = names.Bernoulli(logits=zero, estimator=names.GumbelSoftmax(0.5))

    def model() -> None:
        z = language.sample("z", distribution)
        language.sample("x", language.normal(z, zero + 1), obs=zero)

    draws = language.hmc("NUTS", names.relax(model, 0.5))
    assert np.isfinite(draws["z_relaxed"]).all()


@pytest.mark.parametrize("kernel", ["HMC", "NUTS"])
def test_hmc_warns_of_hard_values(language: Language, kernel: str) -> None:
    """HMC warns once of hard relaxed values, by relax and by RelaxedReparam; SVI does not."""
    names, zero = language.backend.names, language.backend.array(0.0)

    def model() -> None:
        z = language.sample("z", names.Bernoulli(logits=zero))
        language.sample("x", language.normal(z, zero + 1), obs=zero)

    def ways() -> list[Any]:
        found = [names.relax(model, 0.5, hard=True)]
        if language.backend.framework == "numpyro":  # Pyro's reparam needs an initial value
            config = {"z": names.RelaxedReparam(0.5, hard=True)}
            found.append(language.backend.handlers.reparam(model, config=config))
        return found

    for relaxed in ways():
        with pytest.warns(UserWarning, match="the site 'z', relaxed with hard=True") as caught:
            language.hmc(kernel, relaxed)
        assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for relaxed in ways():
            language.first_step(
                lambda temperature, relaxed=relaxed: relaxed(),
                lambda temperature: language.sample(
                    "z_relaxed", names.LogitRelaxedBernoulli(0.5, logits=language.param("w"))
                ),
            )


def test_hmc_enumerates_a_plain_site(language: Language) -> None:
    """A site without an estimator is discrete and enumerable, like the framework's own."""
    names, zero = language.backend.names, language.backend.array(0.0)

    def model() -> None:
        z = language.sample("z", names.Bernoulli(logits=zero))
        w = language.sample("w", language.normal(zero, zero + 1))
        language.sample("x", language.normal(z + w, zero + 1), obs=zero)

    with warnings.catch_warnings():
        if language.backend.framework == "numpyro":
            pytest.importorskip("funsor")
            warnings.filterwarnings("ignore", "Some algorithms will automatically enumerate")
        assert np.isfinite(language.hmc("NUTS", model)["w"]).all()


@pytest.mark.parametrize("distribution", ["OneHotCategorical", "ExpRelaxedOneHotCategorical"])
def test_numpyro_does_not_enumerate_one_hot_values(
    backend: Backend, language: Language, distribution: str
) -> None:
    """NumPyro would replace the values by 0, 1, 2 in HMC and in a scan, so both raise."""
    if backend.framework == "pyro":
        pytest.skip("Pyro enumerates the values of the support")
    pytest.importorskip("funsor")
    import jax
    from numpyro.contrib.control_flow import scan
    from numpyro.infer import NUTS, DiscreteHMCGibbs

    names, zero = backend.names, backend.array(0.0)
    relaxed = (0.5,) if distribution.startswith("Exp") else ()

    def site(*_: Any) -> tuple[Any, Any]:
        distribution_of_z = getattr(names, distribution)(
            *relaxed, logits=backend.array(np.zeros(3))
        )
        return zero, language.sample("z", distribution_of_z)

    def model() -> None:
        site()
        language.sample("w", language.normal(zero, zero + 1))

    error = "NumPyro's inference .* support of a (Log)?OneHotCategorical .* it the numbers 0, 1, 2"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some algorithms will automatically enumerate")
        with pytest.raises(NotImplementedError, match=error):
            language.hmc("NUTS", names.discretize(model))
    kernel = DiscreteHMCGibbs(NUTS(names.discretize(model)))  # proposes entry by entry
    with pytest.raises(NotImplementedError, match=error):
        kernel.init(jax.random.key(0), 2, None, (), {})
    with pytest.raises(NotImplementedError, match=error):
        names.exact_evidence({}, lambda: scan(names.discretize(site), zero, None, 2))


def test_an_automatic_guide_is_a_right_pair(language: Language) -> None:
    """AutoRelaxed uses an estimator, so there is no error and no warning."""
    prior = distributions(language)["discrete"][0]

    def model() -> None:
        with language.plate("rows", 2, -1):
            language.sample("z", prior)

    language.first_step(model, language.backend.names.AutoRelaxed(model))


def test_numpyro_warns_of_plain_sites_only(backend: Backend, language: Language) -> None:
    """Only a discrete site without an estimator can't be trained by its samples."""
    if backend.framework == "pyro":
        pytest.skip("Pyro's ELBOs train plain discrete sites by their score function")
    plain, estimated = distributions(language)["discrete"][:2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        language.first_step(*both(language, plain, estimated))
    with pytest.warns(UserWarning, match=r"the discrete latent sites \['z'\]: their guide has no"):
        language.first_step(*both(language, plain, plain))


def test_a_guide_without_an_estimator_under_pyros_mean_field_elbo(
    backend: Backend, language: Language
) -> None:
    """Pyro's error names no site; this one names those whose guide has no estimator."""
    if backend.framework == "numpyro":
        pytest.skip("NumPyro warns of such sites, and names them")
    plain, estimated = distributions(language)["discrete"][:2]
    names = backend.names

    def fn(distribution: Any) -> Callable[..., None]:
        def call() -> None:
            language.param("w")
            language.sample("a", plain)
            language.sample("b", distribution)
            language.sample("c", distribution)

        return call

    def svi(guide: Any) -> Any:
        loss = backend.infer.TraceMeanField_ELBO()
        return names.AnnealedSVI(fn(plain), guide, language.adam(0.1), loss)

    text = r"SVI with TraceMeanField_ELBO .* sites \['a', 'b', 'c'\]: their guide has no estimator"
    for method in ("step", "evaluate_loss", "step"):
        with pytest.raises(NotImplementedError, match=text):
            getattr(svi(fn(plain)), method)()
    with pytest.raises(NotImplementedError, match=r"sites \['a'\]: their guide"):
        svi(fn(estimated)).step()
    # Another error of the same kind is left as it is.
    with pytest.raises(NotImplementedError, match="mine"):
        svi(fail).step()


def fail() -> None:
    """A guide that raises an error of its own."""
    raise NotImplementedError("mine")
