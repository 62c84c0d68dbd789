"""The errors of inference, the same text in both backends: what was got, expected, and to do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def no_moments(name: str) -> NotImplementedError:
    """Moments of infinite values."""
    return NotImplementedError(
        f"{name} has no mean and no variance, since its values are infinite; expected a law of "
        "finite ones. Use the discrete law of the site that the model computes from it."
    )


def no_twin(name: str) -> ValueError:
    """A site whose law is a transformed relaxed one."""
    return ValueError(
        f"discretize got the site '{name}', whose law is made from a relaxed one by a transform; "
        "expected a relaxed law itself, or an estimated one. Draw from the relaxed law, and apply "
        "the transform to its value in the model."
    )


def no_relaxation(site: str, law: str) -> ValueError:
    """A site whose law can't be relaxed."""
    if law.startswith("Categorical"):
        return ValueError(
            f"The site {site!r} can't be relaxed: it got a {law}, whose values are integers that "
            "index something; expected one-hot values. Write OneHotCategorical, and z @ table in "
            "place of table[z]; or name the sites to relax with sites=[...]."
        )
    return ValueError(
        f"The site {site!r} can't be relaxed: it got a {law}; expected a OneHotCategorical or a "
        "Bernoulli. Name the sites to relax with sites=[...], and enumerate the others or sum "
        "them out."
    )


def named_otherwise(site: str, law: str, observed: bool) -> ValueError:
    """A named site that is no latent discrete one."""
    got = f"which is observed, a {law}" if observed else f"a {law}"
    return ValueError(
        f"relax got {site!r} in sites, {got}; expected the names of latent discrete sites. "
        "Take it out of sites."
    )


def never_seen(missing: Iterable[str], found: Iterable[str]) -> ValueError:
    """Named sites that the model has not drawn."""
    return ValueError(
        f"relax got {sorted(missing)} in sites, which the model never drew; expected names of its "
        f"latent discrete sites, which are {sorted(found)}. Correct the names."
    )


def not_names(name: str, field: str, sites: object) -> ValueError:
    """One name in place of a list of names."""
    return ValueError(f"{name} got {field}={sites!r}; expected a list of names. Write [{sites!r}].")


def given_outside(site: str, handler: str) -> ValueError:
    """A value from outside for a site that is computed there from its auxiliary site."""
    remedy = "Give it its name."
    if handler[0].islower() and handler != "init_to_value":
        remedy = f"Or put it inside, next to the model: relax({handler}(model, ...), temperature)."
    return ValueError(
        f"{handler} got a value for the site {site!r} outside the relaxed model, where its value "
        f"is computed from the site '{site}_relaxed'; expected a value for that one, a log or a "
        f"logit. {remedy}"
    )


def inside_control_flow(site: str) -> ValueError:
    """A discrete site in control flow whose sites no handler outside it can change."""
    return ValueError(
        f"relax got the discrete site {site!r} of a scan or cond, whose sites no handler "
        "outside it changes; expected relax inside. Wrap its body: scan(relax(body, temperature), "
        "...)."
    )


def scanned(names: Sequence[str]) -> ValueError:
    """Estimated sites in a scan, under NumPyro's TraceGraph_ELBO."""
    return ValueError(
        f"AnnealedSVI got TraceGraph_ELBO and the sites {list(names)} with an estimator in a scan; "
        "expected another ELBO, since NumPyro adds a score-function gradient to the estimator's "
        "there. Take Trace_ELBO or TraceMeanField_ELBO."
    )


def discrete_site(values: str) -> NotImplementedError:
    """A sampler or an autoguide that moves through the values of a discrete distribution."""
    return NotImplementedError(
        f"HMC, NUTS or an autoguide got a discrete site, whose values are {values}; expected a "
        "continuous one. Relax the model: relax(model, temperature); or sum the site out."
    )


def no_funsor(name: str, framework: str) -> ValueError:
    """A distribution of which funsor would lose something."""
    expected = "OneHotCategorical or Bernoulli" if framework == "pyro" else "Bernoulli"
    return ValueError(
        f"funsor got a {name}, of which it would keep the parameters alone: neither the relaxed "
        "sample behind its values nor an estimator's gradient; expected "
        f"{expected} without an estimator. Use the inference of {framework}.infer, not of "
        f"{framework}.contrib.funsor, or .discrete."
    )


def no_noise(site: str, law: str) -> ValueError:
    """A site of GumbelSoftmaxReparam that is not relaxed."""
    return ValueError(
        f"GumbelSoftmaxReparam got the site {site!r}, a {law}; expected a relaxed law, such as "
        "RelaxedOneHotCategorical. Relax a discrete site first: its relaxed site is "
        f"'{site}_relaxed'."
    )


def noise_observed(site: str) -> NotImplementedError:
    """An observed site of GumbelSoftmaxReparam."""
    return NotImplementedError(
        f"GumbelSoftmaxReparam got the observed site {site!r}; expected a latent one, since no "
        "noise is drawn for a value that is given. Leave the site out of the configuration."
    )


def not_an_estimator(estimator: Any) -> ValueError:
    """Something else in an estimator's place."""
    return ValueError(
        f"AutoRelaxed got estimator={estimator!r}; expected an estimator, or a callable from a "
        "temperature alone to one. Pass StraightThrough(), GumbelSoftmax(0.5), GumbelSoftmax "
        "itself, or lambda t: DecoupledGumbelSoftmax(1.0, t)."
    )


def guide_without_temperature() -> ValueError:
    """A call of a guide whose estimator is made from the temperature."""
    return ValueError(
        "AutoRelaxed got no temperature; expected temperature=, since its estimator is made from "
        "it. Use AnnealedSVI, which passes it; bind one (functools.partial(guide, "
        "temperature=0.5)), as for Predictive; or pass an estimator with its temperature, such as "
        "GumbelSoftmax(0.5)."
    )


def which_temperature(estimator: str, temperature: Any) -> ValueError:
    """Several temperatures for an estimator of one."""
    keys = list(temperature if isinstance(temperature, dict) else range(len(temperature)))
    return ValueError(
        f"AutoRelaxed got the temperatures {keys} and estimator={estimator}, which is made from "
        "one; expected to be told which. Pass estimator=lambda t: "
        f"{estimator}(t[{keys[0] if keys else 0!r}])."
    )


def guide_not_called() -> ValueError:
    """A question to an automatic guide that has seen no model yet."""
    return ValueError(
        "AutoRelaxed was asked for its laws before its first call; expected one, in which it finds "
        "the model's sites. Train it, or call it once with the model's arguments."
    )


def no_logits_for(site: str, law: Any) -> ValueError:
    """A latent discrete site that is neither one-hot nor Bernoulli."""
    remedy = (
        "Write OneHotCategorical where the value is a category, and multiply by it instead of "
        "indexing; or hide the site from this guide with block."
    )
    return ValueError(
        f"AutoRelaxed got the latent site '{site}' of {type(law).__name__}; expected "
        f"OneHotCategorical or Bernoulli, whose values carry a pathwise gradient. {remedy}"
    )


def continuous_sites(names: Sequence[str]) -> ValueError:
    """Latent continuous sites that no guide draws."""
    return ValueError(
        f"AutoRelaxed got the latent continuous sites {list(names)} and no guide for them; "
        "expected discrete ones. Pass continuous=AutoNormal, or another class or function from a "
        "model to an autoguide; or put AutoRelaxed(block(model, hide=[...])) and theirs in an "
        "AutoGuideList."
    )


def needs_its_own_guide(sites: Mapping[str, str]) -> ValueError:
    """Latent sites that no autoguide draws: they have no density, or masses beside it."""
    name, cls = next(iter(sites.items()))
    return ValueError(
        f"AutoRelaxed got the latent sites {dict(sites)}, which neither it nor another autoguide "
        "can draw; expected discrete sites, and continuous ones that have a density everywhere. "
        f"Write a guide that draws '{name}' from {cls} as well, and beside it, for the discrete "
        f"sites, calls AutoRelaxed(block(model, hide={list(sites)}))."
    )


def no_discrete_sites() -> ValueError:
    """A model with nothing for this guide."""
    return ValueError(
        "AutoRelaxed got a model without latent discrete sites; expected at least one of "
        "OneHotCategorical or Bernoulli. Use the framework's own autoguides, such as AutoNormal."
    )


def needs_the_density(name: str) -> ValueError:
    """A guide for the continuous sites that computes the model's density."""
    return ValueError(
        f"AutoRelaxed got continuous={name}, which computes the model's density, where the "
        "discrete sites are hidden; expected an autoguide with parameters only. Use AutoNormal or "
        "AutoMultivariateNormal."
    )


SMOOTHLY = (
    "Write z @ table for table[z.argmax(-1)], z[..., k] * a + (1 - z[..., k]) * b for "
    "where(z[..., k] == 1, a, b), and z itself for its rounding"
)


class NoGradient(ValueError):
    """A discrete site that no gradient reaches."""


def no_gradient(name: str, site: str) -> NoGradient:
    """A site whose value the model uses in steps only."""
    return NoGradient(
        f"{name} got the site {site!r}, on whose value other densities depend, but none by a "
        "derivative, as after an argmax, a rounding, a comparison or an index: no gradient reaches "
        "it, and it would stay as it is; expected a model that is a smooth function of it. "
        f"{SMOOTHLY}; or train a discrete guide by LeaveOneOut_ELBO, which needs no derivative."
    )


def zero_gradient(name: str, site: str) -> str:
    """The same where a derivative exists, but is 0."""
    return (
        f"{name} got the site {site!r}, on whose value other densities depend, though all their "
        "derivatives by it are 0 at the values that were drawn, as after a rounding: if they are 0 "
        f"everywhere, no gradient reaches it, and it stays as it is. {SMOOTHLY}; or train a "
        "discrete guide by LeaveOneOut_ELBO, which needs no derivative."
    )


def by_floats(error: Exception) -> bool:
    """Whether torch or JAX got floating numbers as an index."""
    text = str(error)
    return "used as indices must be" in text or "Indexer must have integer" in text


def indexed(name: str, sites: Sequence[str]) -> NoGradient:
    """A model that indexes by an array of floating numbers."""
    whose = f"its sites {list(sites)}" if sites else "discrete sites"
    return NoGradient(
        f"{name} got a model that indexes by floating numbers, as the values of {whose} are; "
        "expected it to multiply by them, since an index has no derivative. "
        "Write z @ table for table[z] with a one-hot z, and (1 - z) * table[0] + z * table[1] with "
        "a binary one."
    )
