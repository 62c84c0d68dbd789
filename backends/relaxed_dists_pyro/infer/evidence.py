"""Bounds on the log evidence of the discrete model."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_site_shape
from torch import Tensor

from relaxed_dists._infer import evidence
from relaxed_dists._infer.evidence import EvidenceBounds
from relaxed_dists._infer.svi import accepting

from ..distributions import sites as _sites_module
from .discretize import discretize
from .generators import rng_state, set_rng_state
from .paths import traces as traces_of
from .paths import unchanged_buffers
from .svi import _unwrap


def _sites(traces: list[poutine.Trace]) -> list[evidence.Signed]:
    guide, model = (dict[str, Any](prune_subsample_sites(trace).nodes) for trace in traces)
    return evidence.signed(guide, model)


@torch.no_grad()
@unchanged_buffers()
def evidence_bounds(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    *args: Any,
    num_samples: int = 1000,
    chunk_size: int | None = None,
    progress_bar: bool = True,
    **kwargs: Any,
) -> EvidenceBounds:
    """The ELBO and the importance-weighted bound of the discrete model, with standard errors.

    `discretize` makes model and guide discrete, so the numbers say how good the discrete model is,
    however it was trained. With z drawn S times from the guide and the log weights
    ``w = log p(x, z) - log q(z)``, the ELBO is the mean of w, and the importance-weighted bound is
    ``log(sum(exp(w)) / S)``, which tends to the log evidence as S grows.

    The data in plates that contain all sites of model and guide are independent: each datum has its
    own bound, and the results are these and the sums. If such a plate is subsampled, its minibatch
    is drawn once, and the sum is scaled to all data; the standard errors do not include the choice
    of the minibatch. A latent site that is not in the guide is drawn from the model. As with
    ``vectorize_particles``, one outermost plate draws a chunk of samples. If the model or the guide
    can't run in this plate (because of an ``if`` on a value, or of ``X @ g`` with a latent g
    outside of plates), or if a check with three samples finds other log weights in this plate than
    outside it, the samples are drawn one at a time.

    The samples come from Pyro's global generators. Within ``pyro.poutine.seed(rng_seed=0)`` they
    are the same in each call, and a training around the call keeps its own noise.

    Buffers of modules, such as the running means of a BatchNorm, are restored at the end. In
    training mode a module computes with dropout and its batch's statistics: call ``eval()`` first.

    Args:
        model: A Pyro model.
        guide: The model's guide.
        args: The arguments of model and guide.
        num_samples: The number S of samples.
        chunk_size: The number of samples to draw at once; 1 adds no plate. By default, as many as
            have at most 2^23 numbers at all sites, or one. At 8 x 50,257 categories the default
            needs about 100 MB in float32.
        progress_bar: Whether to show a progress bar.
        kwargs: The keyword arguments of model and guide. ``temperature`` is passed to each only if
            its signature takes it. If no temperature is given, both are called at an arbitrary one,
            on which the discrete model and guide must not depend.

    Returns:
        A named tuple of ``elbo``, ``elbo_error``, ``importance_weighted`` and its standard error
        ``importance_weighted_error``, by the delta method. If the latter error is near 1, one
        sample outweighs all others: draw more samples. With one sample the errors are NaN.
        ``elbo_pointwise`` and ``importance_weighted_pointwise`` are NumPy arrays of each datum's
        bounds, with the shape of the plates that contain all sites. If such a plate is subsampled,
        they are those of the minibatch, unscaled.

    Raises:
        ValueError: If log densities are scaled differently at different sites, the guide draws a
            discrete site from a continuous distribution, or no temperature is given and the
            discrete model or guide depends on one.

    Reference:
        Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders* (2016), equation 8.

    Example:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from relaxed_dists.pyro import Bernoulli, RelaxedBernoulli
        >>> half, x = torch.tensor(0.5), torch.tensor(1.0)
        >>> def model():
        ...     z = pyro.sample("z", RelaxedBernoulli(0.5, probs=half))
        ...     pyro.sample("x", dist.Normal(z, 1.0), obs=x)
        >>> def guide():
        ...     pyro.sample("z", RelaxedBernoulli(0.5, probs=half))
        >>> with pyro.poutine.seed(rng_seed=0):
        ...     bounds = evidence_bounds(model, guide, num_samples=10_000, progress_bar=False)
        >>> round(bounds.elbo, 1), round(bounds.importance_weighted, 1)  # exactly -1.169, -1.138
        (-1.2, -1.1)
    """
    num_samples, chunk_size = evidence.whole(num_samples, chunk_size)
    if "temperature" in kwargs:
        model, guide = accepting(model, guide, _unwrap)
    model, guide = discretize(model), discretize(guide)
    with poutine.block():
        traces = traces_of(model, guide, args, kwargs)
    sites = _sites(traces)
    for name, fn, value in evidence.deltas(_sites_module, pyro.distributions.Delta, sites):
        if not fn.support.check(value).all():
            raise evidence.soft_guide(name)
    stacks = [[f for f in site["cond_indep_stack"] if f.vectorized] for _, site, _ in sites]
    scale = evidence.common([(name, site["scale"]) for name, site, _ in sites])
    dims = {frame.dim for frame in evidence.shared(stacks)}
    depth = max((-frame.dim for stack in stacks for frame in stack), default=0)
    # All chunks use the same minibatches.
    fixed: Any = {
        name: site["value"]
        for trace in traces
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and type(site["fn"]).__name__ == "_Subsample"
    }

    vectorized, checked = True, set[int]()
    found: list[poutine.Trace] = []

    def log_weights(size: int, given: list[poutine.Trace] | None = None) -> Tensor:
        """The log weights of samples drawn in a plate of ``size``; without a plate if size is 1."""
        fns: list[Any] = [poutine.condition(fn, data=fixed) for fn in (model, guide)]
        if given is not None:
            pairs = zip(fns, reversed(given), strict=True)
            fns = [poutine.replay(fn, trace=trace) for fn, trace in pairs]
        if size > 1:
            fns = [pyro.plate("_evidence_samples", size, dim=-1 - depth)(f) for f in fns]
        with poutine.block():
            found[:] = traces_of(fns[0], fns[1], args, kwargs)
        for trace in found:
            trace.compute_log_prob()
        total: Any = 0.0
        for _, site, sign in _sites(found):
            if is_validation_enabled():
                check_site_shape(site, depth + (size > 1))
            axes = dims | ({-1 - depth} if size > 1 else set())
            total = total + sign * evidence.summed(site["log_prob"], axes) / scale
        return total.expand(size, *total.shape[1:]) if size > 1 else total[None]

    def right(weights: Tensor) -> bool:
        """Whether three samples keep their log weights when each is scored without the plate."""
        together, totals = list(found), weights.reshape(len(weights), -1).sum(-1)
        for i in {0, int(totals.argmin()), int(totals.argmax())}:
            given = [_one(*pair, i, depth) for pair in zip(traces, together, strict=True)]
            isolated = log_weights(1, given)
            if not torch.allclose(isolated[0], weights[i], 1e-4, 1e-3, equal_nan=True):
                return False
        return True

    def chunk_of(size: int) -> Tensor:
        """The log weights of samples, drawn in a plate if that is correct, else one by one."""
        nonlocal vectorized
        state = rng_state()
        if size > 1 and vectorized:
            # The model has run with one sample, so an error here probably comes from the plate. Any
            # other error occurs again below.
            with suppress(Exception):
                weights = log_weights(size)
                if size in checked or right(weights):
                    checked.add(size)
                    return weights
            vectorized = False
            set_rng_state(state)
        return torch.cat([log_weights(1) for _ in range(size)])

    running = evidence.Running()
    numbers = sum(site["value"].numel() for _, site, _ in sites)
    for size in evidence.sizes(num_samples, chunk_size, numbers, progress_bar):
        weights = chunk_of(size)
        shape = evidence.data_shape(weights.shape[1:], dims)
        running.add(weights.reshape(size, *shape).cpu())
    return running.bounds(scale)


def _one(single: Any, many: Any, i: int, depth: int) -> Any:
    """A copy of the trace ``single``, with the latent values of sample i in the trace ``many``."""
    one = single.copy()
    nodes: Any = prune_subsample_sites(single).nodes
    for name, site in nodes.items():
        if site["type"] == "sample" and not site["is_observed"] and name in many.nodes:
            value = many.nodes[name]["value"]
            axis = value.dim() - site["fn"].event_dim - 1 - depth
            one.nodes[name] = {**site, "value": value.select(axis, i).reshape(site["value"].shape)}
    return one
