"""The handlers that relax the discrete sites of a model, without a change to the model."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpyro
from numpyro.handlers import block, condition, do, reparam, replay, substitute
from numpyro.infer import init_to_value
from numpyro.infer.reparam import Reparam
from numpyro.primitives import _PYRO_STACK, Messenger

from relaxed_dists._infer import paths
from relaxed_dists._infer import relax as _relax
from relaxed_dists._infer.relax import Chosen, constrained
from relaxed_dists_jax.ops import ops

from .._adapter import RelaxedDistribution
from ..distributions import sites
from ..distributions.bernoulli import LogitRelaxedBernoulli
from ..distributions.one_hot import ExpRelaxedOneHotCategorical
from .paths import check_relaxed

_CLASSES = ExpRelaxedOneHotCategorical, LogitRelaxedBernoulli


def _gives(handler: Any, site: dict[str, Any]) -> str:
    """The name of a handler if it sets the value of a site; otherwise an empty string."""
    name = site["name"]
    if isinstance(handler, condition) and handler.condition_fn is not None:
        return "condition" if handler.condition_fn(site) is not None else ""
    if isinstance(handler, condition | do) and name in handler.data:
        return type(handler).__name__
    if isinstance(handler, replay) and name in handler.trace:
        return "replay" if handler.trace[name]["type"] == "sample" else ""
    if isinstance(handler, substitute):
        start = handler.substitute_fn
        if isinstance(start, functools.partial) and start.func is init_to_value:
            return "init_to_value" if name in start.keywords.get("values", {}) else ""
        if getattr(start, "__name__", "") == "_samples_wo_deterministic":  # made by Predictive
            return "Predictive" if start(site) is not None else ""
        return "substitute" if name in (handler.data or {}) else ""
    return ""


def _refuse_given(name: str, fn: Any) -> None:
    """Refuse a handler outside of relax that sets the value of the discrete site itself.

    For handlers outside, the discrete site is deterministic, with a value computed from the relaxed
    site. NumPyro's handlers would not set this value, or would set it without a change of the
    relaxed site's value.
    """
    inner = max((i for i, h in enumerate(_PYRO_STACK) if isinstance(h, reparam)), default=0)
    site = {"type": "sample", "name": name, "fn": fn, "value": None, "is_observed": False}
    for handler in reversed(_PYRO_STACK[:inner]):
        if isinstance(handler, block) and handler.hide_fn(site):
            return
        title = _gives(handler, site)
        if title and not _gives(handler, {**site, "name": f"{name}_relaxed"}):
            raise _relax.given_outside(name, title)


class RelaxedReparam(_relax.Reparam, Reparam):
    """Relaxes one latent discrete site: its value is computed from a relaxed auxiliary site.

    A one-hot site ``z`` becomes a site ``z_relaxed`` of `ExpRelaxedOneHotCategorical` (in log
    space), and a Bernoulli site becomes one of `LogitRelaxedBernoulli` (in logit space), with the
    same logits, plates, masks and scales. In the trace ``z`` is then a deterministic site, whose
    value is the exponential or the sigmoid of the auxiliary value. Observed sites and relaxed sites
    do not change.

    Args:
        temperature: A positive number, or an array that broadcasts with the site's shape (the shape
            of its logits, without the categories).
        hard: Whether the value is one-hot, or 0 or 1, with the gradient of the soft value.
            Take temperatures up to 1e4. Above 1e4 the largest entries round to the same float32,
            and the first of them becomes 1, perhaps a wrong one (with 10 categories, in 1 of 1,000
            draws at 1e4, and in 1 of 10 at 2**20). HMC and NUTS need False, and True makes them
            warn: the gradient of hard values is not that of their density.

    Raises:
        ValueError: If the site is neither one-hot nor Bernoulli, the temperature is not positive or
            does not broadcast, or a handler outside, such as ``condition``, sets the value of the
            discrete site itself.

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3 and appendix C.

    Example:
        >>> import numpyro
        >>> from jax import numpy as jnp, random
        >>> from numpyro import handlers
        >>> from relaxed_dists.numpyro import OneHotCategorical
        >>> def model(): return numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(3)))
        >>> relaxed = handlers.reparam(model, config={"z": RelaxedReparam(0.5)})
        >>> trace = handlers.trace(handlers.seed(relaxed, random.key(0))).get_trace()
        >>> [(name, site["type"]) for name, site in trace.items()]
        [('z_relaxed', 'sample'), ('z', 'deterministic')]
    """

    def __call__(self, name: str, fn: Any, obs: Any) -> tuple[Any, Any]:
        """Draw the auxiliary site; NumPyro's ``reparam`` handler calls this method.

        Args:
            name: The site's name.
            fn: The site's distribution.
            obs: The value that the site already has, or None.

        Returns:
            None in place of the distribution, and the value; for an observed or relaxed site, fn
            and obs.
        """
        if obs is not None or isinstance(sites.innermost(fn), RelaxedDistribution):
            return fn, obs
        around, one_hot = _relax.relaxed(sites, _CLASSES, name, fn, self.temperature)
        _refuse_given(name, fn)
        self._check_hard(name, "numpyro.infer.hmc")
        y = numpyro.sample(f"{name}_relaxed", around)
        return None, constrained(ops, y, one_hot, self.hard)


class relax(reparam):  # lower case, as NumPyro's handlers are
    """Relaxes all latent discrete sites of a model, or the named ones.

    This handler applies `RelaxedReparam` to each latent site of a one-hot or Bernoulli
    distribution: a site ``z`` becomes the relaxed site ``z_relaxed`` and a deterministic value. The
    relaxed model is an ordinary continuous one: autoguides, ``Predictive`` and NUTS run on it. To
    anneal the temperature, write
    ``def relaxed(x, temperature): return relax(model, temperature)(x)`` and pass this function to
    `AnnealedSVI`.

    To condition on ``z``, write ``relax(condition(model, {"z": ...}), temperature)``, since
    handlers outside of ``relax`` can set only ``z_relaxed``. Autoguides and NUTS propose finite
    logs for all categories, but the log of a masked category (with a logit of -inf) is -inf: if
    there are masked categories, apply `GumbelSoftmaxReparam` to ``z_relaxed``.

    Args:
        fn: The model; or None, for a decorator or a context manager.
        temperature: A positive number, or an array that broadcasts with each site's shape.
        sites: The names of the sites to relax; by default all latent discrete sites.
        hard: Whether values are one-hot, or 0 or 1, with the gradient of the soft values.
            Take temperatures up to 1e4. Above 1e4 the largest entries round to the same float32,
            and the first of them becomes 1, perhaps a wrong one (with 10 categories, in 1 of 1,000
            draws at 1e4, and in 1 of 10 at 2**20). HMC and NUTS need False, and True makes them
            warn: the gradient of hard values is not that of their density.

    Raises:
        ValueError: If a latent discrete site is neither one-hot nor Bernoulli, a named site is not
            a latent discrete one or is never drawn, a temperature is out of its range, or the model
            uses a site's value only through functions without a derivative (an argmax, an index).
            The first call with data checks this last condition by tracing the model once more; it
            warns if all arguments are traced (under ``jit``).

    Reference:
        Maddison, Mnih, Teh, *The Concrete Distribution* (2017), section 3 and appendix C.

    Example:
        >>> import numpyro
        >>> from jax import numpy as jnp, random
        >>> from numpyro import distributions as dist
        >>> from relaxed_dists.numpyro import OneHotCategorical
        >>> def model(x):
        ...     z = numpyro.sample("z", OneHotCategorical(logits=jnp.zeros(2)))
        ...     numpyro.sample("x", dist.Normal(z @ jnp.array([-1.0, 1.0]), 1.0), obs=x)
        >>> kernel = numpyro.infer.NUTS(relax(model, 0.5))
        >>> mcmc = numpyro.infer.MCMC(kernel, num_warmup=20, num_samples=20, progress_bar=False)
        >>> mcmc.run(random.key(0), 2.0)
        >>> mcmc.get_samples()["z"].shape
        (20, 2)
    """

    def __init__(
        self,
        fn: Callable[..., Any] | None = None,
        temperature: Any = None,
        sites: Iterable[str] | None = None,
        hard: bool = False,
    ) -> None:
        self._chosen = Chosen(sites)
        self._reparam = RelaxedReparam(temperature, hard)
        super().__init__(fn, config=self._choose)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model; the first call with data checks that gradients reach the relaxed sites."""
        if self.fn is None:  # the handler decorates a model
            return super().__call__(*args, **kwargs)
        with paths.explain_index("relax", lambda: self._chosen.relaxed or None):
            result = super().__call__(*args, **kwargs)
        if self._chosen.relaxed and self._chosen.observed:
            inner: Any = self.fn
            while isinstance(inner, Messenger):
                inner = inner.fn

            def check() -> bool:
                reparam: Any = self._reparam
                again = _Unchecked(self.fn, reparam.temperature, self._chosen.names, reparam.hard)
                return check_relaxed(again, self._chosen.relaxed, args, kwargs)

            paths.once(inner, check)
        return result

    def _choose(self, site: dict[str, Any]) -> RelaxedReparam | None:
        fn, name = site["fn"], site["name"]
        is_discrete = sites.kind(fn) in ("discrete", "estimated")
        base = type(sites.innermost(fn)).__name__
        if not self._chosen.has(name, base, is_discrete, site["is_observed"]):
            return None
        if site.get("_control_flow_done"):
            raise ValueError(
                f"relax got the discrete site {name!r} of a scan or cond, whose sites no handler "
                "outside it changes; expected relax inside. Wrap its body: "
                "scan(relax(body, temperature), ...)."
            )
        if site["value"] is not None:  # a handler inside relax has set the value
            return None
        self._chosen.relaxed.add(name)
        return self._reparam

    def process_message(self, msg: dict[str, Any]) -> None:
        """Relax a site, and note whether any site is observed."""
        self._chosen.observed |= msg["type"] == "sample" and msg["is_observed"]
        super().process_message(msg)

    def __enter__(self) -> None:
        """Forget which sites the last run of the model drew."""
        self._chosen.start()
        super().__enter__()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        """Check that all named sites were drawn, unless an error ended the run."""
        super().__exit__(exc_type, exc_value, traceback)
        if exc_type is None:
            self._chosen.check()


class _Unchecked(relax):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model without the check of gradients."""
        return Messenger.__call__(self, *args, **kwargs)
