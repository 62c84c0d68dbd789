"""Look up the ELBO that asks for a density."""

import sys
from collections.abc import Collection
from typing import Any


def relaxed_site(elbo: type, relaxed: tuple[type, ...]) -> tuple[str, Any, bool] | None:
    """The latent site that an ELBO scores, if the guide draws it from a relaxed distribution.

    The frameworks do not tell a distribution which site's value it scores, and numbers do not say
    whether they were drawn or given. So this walks up the stack, which is slow: ask only where a
    value may be a wrong one.

    Args:
        elbo: The class of the framework's ELBOs.
        relaxed: The classes of relaxed distributions.

    Returns:
        The site's name, the relaxed distribution inside all wrappers, and whether ``allow_mixed``
        names the site. None if the guide doesn't draw it from a relaxed distribution.
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
