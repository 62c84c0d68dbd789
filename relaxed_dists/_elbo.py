"""What is known of the ELBO that asks for a density."""

import sys
from collections.abc import Collection
from typing import Any


def latent_site(elbo: type) -> tuple[str, Any, bool] | None:
    """The latent site that an ELBO scores; None elsewhere.

    The frameworks do not tell a distribution whose value it scores, and numbers alone do not say
    whether they were drawn or given. So this reads it off the calls that are under way, which is
    slow: ask only for a value of which there is reason to.

    Args:
        elbo: The class of the framework's ELBOs.

    Returns:
        The site's name, what the guide draws it from, and whether ``allow_mixed`` names it.
    """
    site: Any = None
    guide: Any = None
    frame: Any = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), elbo):
        found = frame.f_locals.get("site")
        if site is None and isinstance(found, dict) and "is_observed" in found:
            site = found
        guide = frame.f_locals.get("guide_trace") if guide is None else guide
        frame = frame.f_back
    if site is None or frame is None or site["is_observed"]:
        return None
    guide = frame.f_locals.get("guide_trace") if guide is None else guide
    sites = getattr(guide, "nodes", guide) or {}
    name = site["name"]
    allowed = False
    while frame is not None and not allowed:
        names = getattr(frame.f_locals.get("self"), "allow_mixed", ())
        allowed = isinstance(names, Collection) and name in names
        frame = frame.f_back
    return name, sites[name]["fn"] if name in sites else site["fn"], allowed


def guide_of_latent(elbo: type) -> Any:
    """What the guide draws a latent site from while an ELBO scores the site; None elsewhere.

    Args:
        elbo: The class of the framework's ELBOs.
    """
    found = latent_site(elbo)
    return None if found is None else found[1]
