"""The errors of the unbiased losses, the same text in both backends."""

from typing import Any

from relaxed_dists._distributions.estimators import shown


def bad_particles(name: str, number: Any, least: int) -> ValueError:
    """A number of particles that is too small, or none."""
    remedy = (
        "The baseline of each is the mean of the others: take 2 to 10"
        if least > 1
        else "Take 1, or more for less variance"
    )
    return ValueError(
        f"{name} got num_particles={number!r}; expected a whole number of at least {least}. "
        f"{remedy}."
    )


def bad_eta(name: str, eta: Any) -> ValueError:
    """A weight of the control variate that is none."""
    return ValueError(
        f"{name} got eta={eta!r}; expected a finite number, or the name of a parameter that the "
        "guide declares, to be trained. Take 1.0."
    )


def no_such_parameter(name: str, eta: str) -> ValueError:
    """The name of a parameter that the guide has not."""
    return ValueError(
        f"{name} got eta={eta!r}, which is no parameter of the guide; expected one. Write "
        f"param({eta!r}, 1.0) in the guide, in its framework's way, or give a number."
    )


def bad_surrogate(name: str, surrogate: Any) -> ValueError:
    """A surrogate that can't be called."""
    return ValueError(
        f"{name} got surrogate={surrogate!r}; expected a function of a dict of relaxed values. "
        "Write one that returns a number, or one for each row of the plate; or take REBAR_ELBO."
    )


def bad_surrogate_shape(name: str, site: str, got: Any, expected: Any) -> ValueError:
    """A control variate of a shape that fits no site's rows."""
    return ValueError(
        f"{name} got a surrogate that returns the shape {tuple(got)}, beside the site {site!r} of "
        f"batch shape {tuple(expected)}; expected a number, or an array that broadcasts with it. "
        "Sum over the categories and the event's dimensions."
    )


def soft_estimator(name: str, site: str) -> ValueError:
    """An estimator whose values are soft."""
    return ValueError(
        f"{name} got the site {site!r} with a GumbelSoftmax of hard=False; expected hard=True, "
        "since it is the discrete bound whose gradient it estimates: the soft values are only its "
        "control variate. Leave hard out."
    )


def no_gumbel_softmax(name: str, site: str, law: Any) -> ValueError:
    """A discrete site of the guide without a temperature for its control variate."""
    estimator = getattr(law, "estimator", None)
    got = f"estimator={shown(estimator)}" if estimator is not None else "no estimator"
    return ValueError(
        f"{name} got the site {site!r}, {type(law).__name__} with {got}; expected "
        "OneHotCategorical or Bernoulli with GumbelSoftmax(temperature), the temperature of the "
        "control variate. Use LeaveOneOut_ELBO for other laws without a pathwise gradient."
    )


def straight_through(name: str, site: str, law: Any) -> ValueError:
    """A site of the guide whose gradient is biased whatever the loss."""
    return ValueError(
        f"{name} got the site {site!r}, {type(law).__name__}, whose pathwise gradient is biased; "
        "expected a discrete law, or a continuous one. Use OneHotCategorical, Bernoulli or Subset."
    )


def no_soft_model(name: str, site: str, law: Any) -> ValueError:
    """A latent site of the model that has no value between the hard ones."""
    return ValueError(
        f"{name} got the site {site!r}, {type(law).__name__} in the model, which takes no soft "
        "values; expected OneHotCategorical or Bernoulli, as in the guide. Change the model's "
        "site; or take LeaveOneOut_ELBO, or RELAX_ELBO with eta=0, which do not run the model at "
        "soft values."
    )


def no_derivative(name: str, site: str) -> ValueError:
    """A site whose value the model uses in steps."""
    return ValueError(
        f"{name} got the site {site!r}, on whose value no other density depends by a derivative; "
        "expected a model that is a smooth function of it, since its control variate is a "
        "derivative. Multiply by the value in place of an argmax, a rounding or an index of it; or "
        "take LeaveOneOut_ELBO, or RELAX_ELBO with eta=0."
    )


def out_of_reach(name: str, site: str) -> ValueError:
    """A site of the guide in control flow whose sites no handler outside it can change."""
    return ValueError(
        f"{name} got the site {site!r} of a scan or cond in the guide, or with a value from "
        "outside, which it can't draw itself; expected it outside. Write the loop in Python, or "
        "draw the sites in a plate. LeaveOneOut_ELBO takes such a site without an estimator."
    )
