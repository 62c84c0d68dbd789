"""What is known of the ELBO that asks for a density."""

import sys
from collections.abc import Collection
from typing import Any


def relaxed_site(elbo: type, relaxed: tuple[type, ...]) -> tuple[str, Any, bool] | None:
    """The latent site that an ELBO scores, if the guide draws it from a relaxed distribution.

    The frameworks do not tell a distribution whose value it scores, and numbers alone do not say
    whether they were drawn or given. So this reads it off the calls that are under way, which is
    slow: ask only about a value that gives reason to.

    Args:
        elbo: The class of the framework's ELBOs.
        relaxed: The classes of relaxed distributions.

    Returns:
        The site's name, the relaxed distribution inside all wrappers, and whether ``allow_mixed``
        names the site; None elsewhere.
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
