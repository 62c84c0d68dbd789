"""The search on the Python stack for the ELBO that computes a log density."""

import sys
from collections.abc import Collection
from typing import Any


def relaxed_site(elbo: type, relaxed: tuple[type, ...]) -> tuple[str, Any, bool] | None:
    """The latent site that an ELBO scores, if the guide draws it from a relaxed distribution.

    The frameworks do not tell a distribution which site's value it scores, and a value does not
    show whether it was drawn or given. So this function reads local variables of the ELBO on the
    Python stack. That is slow, so call the function only for a value that may be wrong.

    Args:
        elbo: The class of the framework's ELBOs.
        relaxed: The classes of relaxed distributions.

    Returns:
        The site's name, the relaxed distribution inside all wrappers, and whether ``allow_mixed``
        names the site. None if no ELBO scores a latent site, or if the site's distribution in the
        guide is not relaxed.
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
    name, allowed = site["name"], False
    fn = sites[name]["fn"] if name in sites else site["fn"]
    while fn is not None and not isinstance(fn, relaxed):
        fn = getattr(fn, "base_dist", None) or getattr(fn, "component_distribution", None)
    if fn is None:
        return None
    while frame is not None and not allowed:
        names = getattr(frame.f_locals.get("self"), "allow_mixed", ())
        allowed = isinstance(names, Collection) and name in names
        frame = frame.f_back
    return name, fn, allowed
