"""The errors of HardConcrete, the same text in both backends."""

from typing import Any

from relaxed_dists._errors import LOSES


def bad_stretch(name: str, low: Any, high: Any) -> ValueError:
    """Ends of the stretched interval that do not reach beyond [0, 1]."""
    return ValueError(
        f"{name} got low={low!r} and high={high!r}; expected Python numbers, low below 0 and high "
        "above 1, each by 2**-20 to 2**20 (1e-6 to 1e6). The paper takes -0.1 and 1.1."
    )


def unlike_stretches(p: tuple[float, float], q: tuple[float, float]) -> ValueError:
    """A divergence between laws that are stretched differently."""
    return ValueError(
        f"kl_divergence got HardConcrete laws with low and high of {p} and {q}; expected the same. "
        "Give model and guide the same low and high."
    )


def no_mode(name: str) -> NotImplementedError:
    """The mode of a law that is part masses and part density."""
    return NotImplementedError(
        f"{name} got asked for its mode, which a law of point masses at 0 and 1 and a density in "
        "between does not have; expected a law that has one. Use .deterministic for the value "
        "without noise, or .discrete.mode for whether the gate is open."
    )


def no_transform() -> ValueError:
    """A sampler or a guide that moves through the values of a mixed law."""
    return ValueError(
        "HMC, NUTS or an autoguide got a site of HardConcrete, whose point masses at 0 and 1 it "
        "would never visit; expected a law that has a density. Write a guide that draws the site "
        "from HardConcrete as well, or take RelaxedBernoulli in the model."
    )


def lost(name: str) -> ValueError:
    """A drawn value in an ELBO that has lost what the gradient needs."""
    return ValueError(
        f"{name}.log_prob got a value that has lost the relaxed sample behind it, in an ELBO whose "
        "gradient would miss the mass that moves across 0 and 1; expected the very object that the "
        f"distribution drew: {LOSES}. Draw the site from {name} itself, and write the rest of the "
        "model after it."
    )
