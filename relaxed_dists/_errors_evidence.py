"""The errors of what judges a model, the same text in both backends."""

from collections.abc import Sequence
from typing import Any


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
