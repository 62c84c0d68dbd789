"""Bounds on the log evidence of the discrete model."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array, random
from numpyro.handlers import replay, seed, substitute, trace

from relaxed_dists._infer import evidence
from relaxed_dists._infer.discretize import AtAnyTemperature
from relaxed_dists._infer.evidence import EvidenceBounds
from relaxed_dists._infer.svi import accepting
from relaxed_dists_jax.input import known

from ..distributions import sites as _sites_module
from .arguments import check_arguments
from .discretize import discretize
from .svi import _unwrap


def _log_prob(site: dict[str, Any]) -> Array:
    """The log density of a site, as NumPyro's ELBOs compute it."""
    more = (site["intermediates"],) if site["intermediates"] else ()
    return jnp.asarray(site["fn"].log_prob(site["value"], *more))


def _sites(traces: list[dict[str, Any]]) -> list[evidence.Signed]:
    return evidence.signed(*traces)


def with_arrays(
    name: str, args: Any, kwargs: Any, *others: Any
) -> tuple[dict[int, Array], Callable[[dict[int, Array]], Any]]:
    """The JAX arrays in args and kwargs, and a function that makes args and kwargs from arrays.

    Compiled functions take these arrays as arguments, since JAX takes no array as a constant of
    which each process holds a part; everything else becomes a constant. If any of these arrays or
    of the others is traced, this is an error, as in `fetched`.
    """
    leaves, structure = jax.tree.flatten((args, kwargs))
    if not all(map(known, jax.tree.leaves((leaves, others)))):
        raise evidence.traced(name)
    arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)}
    return arrays, lambda arrays: jax.tree.unflatten(
        structure, [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
    )


def fetched(name: str, array: Array) -> np.ndarray:
    """The numbers of an array, in each process, also if each holds only a part of the array.

    If the array is traced, the function of that name can't return numbers, which is an error.
    """
    if not known(array):
        raise evidence.traced(name)
    if array.is_fully_addressable:
        return np.asarray(array)
    from jax.experimental.multihost_utils import process_allgather  # rarely needed

    return np.asarray(process_allgather(array, tiled=True))


def evidence_bounds(
    rng_key: Array,
    params: dict[str, Any],
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
    of the minibatch. A latent site that is not in the guide is drawn from the model. Each sample
    has its own key, so the results do not depend on the size of the chunks.

    Each call compiles model and guide, so pass all data in one call. Calls with equal shapes share
    the compiled code through JAX's compilation cache, if ``jax_compilation_cache_dir`` is set.
    Arrays may be sharded over devices and processes. Inside ``jit``, ``vmap`` or ``shard_map`` the
    call raises a ValueError, since it returns numbers.

    Args:
        rng_key: A JAX random key.
        params: The parameters of model and guide, such as ``svi.get_params(state)``.
        model: A NumPyro model.
        guide: The model's guide.
        args: The arguments of model and guide.
        num_samples: The number S of samples.
        chunk_size: The number of samples to draw at once, by vmap. By default, as many as have at
            most 2^23 numbers at all sites, or one. At 8 x 50,257 categories the default needs about
            100 MB in float32.
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
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from jax import random
        >>> from relaxed_dists.numpyro import RelaxedBernoulli
        >>> def model():
        ...     z = numpyro.sample("z", RelaxedBernoulli(0.5, probs=0.5))
        ...     numpyro.sample("x", dist.Normal(z, 1.0), obs=1.0)
        >>> def guide():
        ...     numpyro.sample("z", RelaxedBernoulli(0.5, probs=0.5))
        >>> key, params = random.key(0), {}
        >>> bounds = evidence_bounds(key, params, model, guide, progress_bar=False)
        >>> round(bounds.elbo, 1), round(bounds.importance_weighted, 1)  # exactly -1.169, -1.138
        (-1.2, -1.1)
    """
    call = "evidence_bounds(rng_key, params, model, guide, ...)"
    check_arguments(call, rng_key=rng_key, params=params, model=model, guide=guide)
    num_samples, chunk_size = evidence.whole(num_samples, chunk_size)
    key, rng_key = random.split(rng_key)
    arrays, given = with_arrays("evidence_bounds", args, kwargs, key, params)
    if "temperature" in kwargs:
        model, guide = accepting(model, guide, _unwrap)
    model, guide = discretize(model), discretize(guide)
    for handler in (model, guide):
        # This check needs the numbers of the arguments, so it runs before jit, which hides them.
        if isinstance(handler.fn, AtAnyTemperature):
            handler.fn.check(substitute(handler.fn.fn, params), args, kwargs)

    def traces(arrays: dict[int, Array], data: dict[str, Any], key: Array) -> list[dict[str, Any]]:
        args, kwargs = given(arrays)
        keys = random.split(key)
        guide_trace = trace(seed(substitute(guide, data), keys[0])).get_trace(*args, **kwargs)
        replayed = replay(seed(substitute(model, data), keys[1]), guide_trace)
        return [guide_trace, trace(replayed).get_trace(*args, **kwargs)]

    names: list[str] = []
    stacks: list[Any] = []
    numbers = 0

    @jax.jit
    def look(arrays: dict[int, Array], params: dict[str, Any], key: Array) -> Any:
        nonlocal numbers
        found = traces(arrays, params, key)
        sites = _sites(found)
        deltas = evidence.deltas(_sites_module, dist.Delta, sites)
        valid = {name: jnp.all(fn.support(value)) for name, fn, value in deltas}
        stacks[:] = [site["cond_indep_stack"] for _, site, _ in sites]
        numbers = sum(jnp.size(site["value"]) for _, site, _ in sites)
        scales = [1.0 if site["scale"] is None else site["scale"] for _, site, _ in sites]
        names[:] = [name for name, _, _ in sites]
        plates = [site for t in found for site in t.values() if site["type"] == "plate"]
        return scales, {site["name"]: site["value"] for site in plates}, valid

    scales, fixed, valid = look(arrays, params, key)
    for name, is_valid in valid.items():
        if not is_valid:
            raise evidence.soft_guide(name)
    scale = evidence.common(list(zip(names, scales, strict=True)))
    dims = {frame.dim for frame in evidence.shared(stacks)}
    size = evidence.chunk(num_samples, chunk_size, numbers)
    # The minibatches are the same for all samples.
    data = {**params, **fixed}

    @jax.jit
    def log_weights(arrays: dict[int, Array], data: dict[str, Any], keys: Array) -> Array:
        def of_one(key: Array) -> Array:
            signed = [(sign, site) for _, site, sign in _sites(traces(arrays, data, key)) if sign]
            terms = [sign * evidence.summed(_log_prob(site), dims) for sign, site in signed]
            total = sum(terms, start=jnp.zeros(()))
            return total.reshape(evidence.data_shape(total.shape, dims))

        return jax.vmap(of_one)(keys)

    running, start = evidence.Running(), 0
    keys = random.split(rng_key, num_samples)
    for now in evidence.sizes(num_samples, chunk_size, numbers, progress_bar):
        # The last chunk gets keys up to the full size, so that JAX compiles only one size.
        some = keys[(start + jnp.arange(size)) % num_samples]
        weights = fetched("evidence_bounds", log_weights(arrays, data, some))
        running.add(weights[:now])
        start += now
    return running.bounds(scale)
