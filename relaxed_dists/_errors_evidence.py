"""The errors of models that are evaluated or paired wrongly, the same text in both backends."""

from collections.abc import Sequence
from typing import Any

from relaxed_dists import _errors_structured


def bad_count(name: str, number: Any) -> ValueError:
    """A number of samples that is none."""
    return ValueError(
        f"evidence_bounds got {name}={number}; expected a whole number from 1 up. "
        "A standard error needs two samples."
    )


def unlike_scales(scales: Sequence[tuple[str, Any]]) -> ValueError:
    """Sites whose log densities are not multiplied by one and the same number."""
    given = ", ".join(f"{name}: {scale}" for name, scale in scales)
    return ValueError(
        f"evidence_bounds got sites with the scales {given}; expected one number at all of them, "
        "since log weights that are scaled site by site bound no evidence. Evaluate with all the "
        "data in every plate inside the model, and without scale handlers at single sites; a plate "
        "around all sites of model and guide may be subsampled."
    )


def no_sites() -> ValueError:
    """A model without sample sites."""
    return ValueError(
        "evidence_bounds got a model without sample sites; expected at least one, such as an "
        "observed one. Write the data as sample(..., obs=data)."
    )


def soft_guide(name: str, law: str) -> ValueError:
    """A discrete site whose guide draws from a continuous law."""
    return ValueError(
        f"evidence_bounds got the site '{name}', which the discrete model draws from a discrete "
        f"law and the guide from {law}; expected a discrete or relaxed law in the guide as well. "
        "Evaluate with a guide whose own sites are relaxed, such as AutoRelaxed, or evaluate the "
        "relaxed model with the framework's ELBO."
    )


def no_density() -> ValueError:
    """A sampler or a guide that moves through the values of a law with an estimator."""
    return ValueError(
        "HMC, NUTS or an autoguide got a site of a discrete law with a pathwise estimator; "
        "expected a continuous law, since the estimator's gradient is that of no density. Relax "
        "the model: relax(model, temperature). Or drop the estimator, and let the framework "
        "enumerate the site, or block it."
    )


def mixed(name: str, model: str, guide: str, who: str = "AnnealedSVI") -> ValueError:
    """A site with a mass on one side and a density on the other."""
    if "Subset" in model + guide or "Permutation" in model + guide:
        return _errors_structured.mixed(name, model, guide)
    binary = "Bernoulli" in model + guide
    relaxed = "RelaxedBernoulli" if binary else "RelaxedOneHotCategorical"
    hard = "Bernoulli" if binary else "OneHotCategorical"
    return ValueError(
        f"{who} got the site '{name}', which the model draws from {model} and the guide from "
        f"{guide}; expected two relaxed laws or two discrete ones, since a density and a mass make "
        f"no bound. Write one of three: {relaxed} in both; {hard} in both, with an estimator in "
        f"the guide, {hard}(..., estimator=GumbelSoftmax(temperature)); or relax(model, "
        f"temperature), whose site is '{name.removesuffix('_relaxed')}_relaxed', with a guide of "
        f"it. To go on with the mixture, name the site: AnnealedSVI(..., allow_mixed=['{name}'])."
    )


def not_enumerable(name: str, law: str) -> ValueError:
    """A latent site whose values can't be summed over."""
    return ValueError(
        f"exact_evidence got the latent site '{name}' of {law}; expected a discrete law that the "
        "framework enumerates, each dimension of it in a plate. Write the dimensions that to_event "
        "holds as plates; for a model with continuous sites take evidence_bounds."
    )


def scaled(name: str, scale: object) -> ValueError:
    """A site whose log density is multiplied by a number."""
    return ValueError(
        f"exact_evidence got the site '{name}' with the scale {scale}; expected 1, that of a whole "
        "model of all its data. Evaluate without subsampling and without scale handlers."
    )


def masked(name: str) -> ValueError:
    """A latent site under a mask, in NumPyro."""
    return ValueError(
        f"exact_evidence got a mask at the latent site '{name}', of which NumPyro's enumeration "
        "sums the values that are masked out as well; expected latent sites without masks. "
        "Evaluate the data that are kept alone, or take evidence_bounds."
    )


def no_funsor() -> ModuleNotFoundError:
    """NumPyro's enumeration without what it is made of."""
    return ModuleNotFoundError(
        "exact_evidence needs funsor, by which NumPyro enumerates and which is not installed. "
        "Install the extra: pip install 'relaxed-dists[enumeration]'",
        name="funsor",
    )


def no_integers(name: str) -> NotImplementedError:
    """NumPyro's enumeration of values that are no integers."""
    return NotImplementedError(
        f"NumPyro's inference (NUTS, TraceEnum_ELBO, scan, DiscreteHMCGibbs, MixedHMC) asked for "
        f"the support of a {name} (expand=False), and would give it the numbers 0, 1, 2 and so on; "
        "expected a law of such numbers. For the values call enumerate_support(); for the "
        "evidence exact_evidence, without scan; for NUTS relax(model, temperature); or draw k "
        "from Categorical and write jax.nn.one_hot(k, K)."
    )
