"""The parts of evidence_bounds and exact_evidence that both backends share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from relaxed_dists import _errors
from relaxed_dists._infer.sites import Sites
from relaxed_dists._ops import Array

# The most numbers that all sites of a chunk have together. A chunk is several samples, which are
# drawn at once; a chunk of a single sample may have more numbers.
CHUNK = 2**23
Signed = tuple[str, Any, int]  # a site's name, its message, and its sign in the log weight


class EvidenceBounds(NamedTuple):
    """Two lower bounds of the log evidence, each with its standard error, and those of each datum.

    The bounds are in nats. The importance-weighted bound is tighter. The standard errors are those
    of the samples; how the data differ is seen in the bounds of each datum.

    Args:
        elbo: The evidence lower bound, summed over the data.
        elbo_error: The standard error of ``elbo``.
        importance_weighted: The importance-weighted bound, summed over the data.
        importance_weighted_error: The standard error of ``importance_weighted``.
        elbo_pointwise: The evidence lower bound of each datum, a float64 array with the shape of
            the plates that contain all sites; of shape ``()`` if there is no such plate.
        importance_weighted_pointwise: The importance-weighted bound of each datum.

    Reference:
        Burda, Grosse, Salakhutdinov, *Importance Weighted Autoencoders* (2016), equations 3 and 8.

    Example:
        >>> import numpy as np
        >>> each = np.array([-1.2, -1.0, -1.3]), np.array([-1.1, -1.0, -1.2])
        >>> bounds = EvidenceBounds(-3.5, 0.02, -3.3, 0.02, *each)
        >>> data = bounds.importance_weighted_pointwise
        >>> print(f"{data.mean():.2f} +- {data.std(ddof=1) / len(data) ** 0.5:.2f} a datum")
        -1.10 +- 0.06 a datum
    """

    elbo: float
    elbo_error: float
    importance_weighted: float
    importance_weighted_error: float
    elbo_pointwise: np.ndarray[Any, Any]
    importance_weighted_pointwise: np.ndarray[Any, Any]

    def __repr__(self) -> str:
        """The sums and their errors, without the data."""
        sums = zip(self._fields[:4], self, strict=False)
        return f"EvidenceBounds({', '.join(f'{name}={x}' for name, x in sums)}, ...)"

    @classmethod
    def joined(cls, parts: Iterable[EvidenceBounds], axis: int = -1) -> EvidenceBounds:
        """The bounds of data that were scored in parts, such as the batches of a loader.

        The bounds are summed, and so are the squares of the standard errors, since the parts have
        different random numbers: in NumPyro, give each part its own key. No latent variable may be
        shared between parts, and no plate may be subsampled.

        Args:
            parts: The bounds of each part of the data, with the same number of samples each; with
                fewer, the importance-weighted bound is looser.
            axis: The axis of the arrays of each datum along which the data were split.

        Returns:
            The bounds of all data, with the parts' data in their order.

        Raises:
            ValueError: If there are no parts, or a part has no bound of each datum, or is scaled.

        Example:
            >>> import numpy as np
            >>> first = EvidenceBounds(-2.0, 0.3, -1.8, 0.3, np.array([-2.0]), np.array([-1.8]))
            >>> last = EvidenceBounds(-3.0, 0.4, -2.7, 0.4, np.array([-3.0]), np.array([-2.7]))
            >>> bounds = EvidenceBounds.joined([first, last])
            >>> bounds.elbo, bounds.elbo_error, bounds.elbo_pointwise
            (-5.0, 0.5, array([-2., -3.]))
        """
        parts = list(parts)
        if not parts or any(part.elbo_pointwise.ndim == 0 for part in parts):
            got = "a part whose sites share no plate" if parts else "no parts"
            raise ValueError(
                f"EvidenceBounds.joined got {got}; expected the bounds of parts of the data, with "
                "a bound of each datum. Put the data into a plate around all sites, or score all "
                "of them in one call of evidence_bounds."
            )
        for part in parts:
            data = part.elbo_pointwise
            slack = 1e-9 * np.abs(data[np.isfinite(data)]).sum()
            if not np.isclose(part.elbo, data.sum(), 0.0, slack, equal_nan=True):
                raise ValueError(
                    f"EvidenceBounds.joined got a part whose elbo is {part.elbo}, but {data.sum()} "
                    "in the sum of its data; expected the same number. A subsampled plate or a "
                    "scale multiplies the former: score each part in a plate of the part's size."
                )
        elbo, elbo_error, bound, error, *each = zip(*parts, strict=True)
        sums = sum(elbo), math.hypot(*elbo_error), sum(bound), math.hypot(*error)
        return cls(*sums, *(np.concatenate(arrays, axis) for arrays in each))


class Running:
    """Mean and variance of log weights, and the log of the mean weight, for each datum.

    The data may have any shape. The object stores five numbers for each datum, however many samples
    are added.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0  # the sum of squared deviations from the mean
        self.top: Any = -math.inf  # the largest log weight; the sums are of exp(log_weight - top)
        self.weights: Any = 0.0
        self.squared_weights: Any = 0.0

    # Infinite or NaN log weights may make the results infinite or NaN, without a warning.
    @np.errstate(invalid="ignore")
    def add(self, log_weights: Any) -> None:
        """Add a chunk of log weights, of shape (samples,) + the shape of the data."""
        new = np.asarray(log_weights, np.float64)
        n, mean = len(new), new.mean(0)
        total, step = self.count + n, mean - self.mean
        # Sums of squares about each chunk's mean avoid cancellation (Chan, Golub, LeVeque, 1979).
        self.squares = self.squares + ((new - mean) ** 2).sum(0)
        self.squares = self.squares + step**2 * self.count * n / total
        # The new mean is a sum, in which -inf stays -inf; with a difference it would become NaN.
        self.mean = self.mean * (self.count / total) + mean * (n / total)
        self.count = total
        top = np.maximum(self.top, new.max(0))
        finite = np.where(np.isfinite(top), top, 0.0)  # 0 if all weights so far are 0
        old, parts = np.exp(np.minimum(self.top - finite, 0.0)), np.exp(new - finite)
        self.weights = self.weights * old + parts.sum(0)
        self.squared_weights = self.squared_weights * old**2 + (parts**2).sum(0)
        self.top = top

    @np.errstate(invalid="ignore", divide="ignore")
    def bounds(self, scale: float = 1.0) -> EvidenceBounds:
        """The bounds summed over the data and multiplied by a scale, with standard errors."""
        n, spare = self.count, max(self.count - 1, 0) or math.nan
        variance = self.squares / spare / n
        log_mean = np.where(np.isfinite(self.top), self.top, 0.0) + np.log(self.weights / n)
        # The delta method gives the variance of log(mean weight) as the variance of the mean weight
        # divided by the square of the mean weight.
        relative = np.maximum(n * self.squared_weights / self.weights**2 - 1, 0.0) / spare
        return EvidenceBounds(
            float(scale * np.sum(self.mean)),
            float(scale * np.sqrt(np.sum(variance))),
            float(scale * np.sum(log_mean)),
            float(scale * np.sqrt(np.sum(relative))),
            np.asarray(self.mean),
            np.asarray(log_mean),
        )


def sizes(num_samples: int, chunk_size: int | None, numbers: int, bar: bool) -> Iterator[int]:
    """The sizes of the chunks, with a progress bar that counts samples.

    Args:
        num_samples: The number of samples.
        chunk_size: The size of a chunk, or None for the largest that CHUNK allows.
        numbers: How many numbers one sample of all sites has.
        bar: Whether to show the bar.
    """
    from tqdm.auto import tqdm

    size = chunk(num_samples, chunk_size, numbers)
    with tqdm(total=num_samples, disable=not bar, unit="sample") as progress:
        for start in range(0, num_samples, size):
            now = min(size, num_samples - start)
            yield now
            progress.update(now)


def whole(num_samples: Any, chunk_size: Any) -> tuple[int, int | None]:
    """num_samples and chunk_size as integers; an error if one is not a positive whole number."""
    for name, given in (("num_samples", num_samples), ("chunk_size", chunk_size)):
        if name == "chunk_size" and given is None:
            continue
        number = _errors.is_number(given) and not isinstance(given, bool)
        if not number or given % 1 != 0 or given < 1:
            raise ValueError(
                f"evidence_bounds got {name}={given}; expected a whole number from 1 up. "
                "A standard error needs two samples."
            )
    return int(num_samples), None if chunk_size is None else int(chunk_size)


def chunk(num_samples: int, chunk_size: int | None, numbers: int) -> int:
    """The size of a chunk. The arguments are those of ``sizes``."""
    return min(num_samples, chunk_size or max(CHUNK // max(numbers, 1), 1))


def shared(stacks: Iterable[Iterable[Any]]) -> set[Any]:
    """The plates that contain every site; ``stacks`` has the plates of each site."""
    sets = [set(stack) for stack in stacks]
    return set.intersection(*sets) if sets else set()


def common(scales: Sequence[tuple[str, Any]]) -> float:
    """The scale of all sites, from pairs of name and scale; an error if the scales differ."""
    first = scales[0][1]
    if any(np.ndim(x) or not math.isclose(x, first, rel_tol=1e-6) for _, x in scales):
        given = ", ".join(f"{name}: {scale}" for name, scale in scales)
        raise ValueError(
            f"evidence_bounds got sites with the scales {given}; expected one number at all of "
            "them, since log weights that are scaled site by site bound no evidence. Evaluate with "
            "all the data in every plate inside the model, and without scale handlers at single "
            "sites; a plate around all sites of model and guide may be subsampled."
        )
    return float(first)


def summed(log_prob: Array, axes: set[int]) -> Array:
    """A log density summed over all axes but the given ones, which count from the right."""
    for axis in range(-len(log_prob.shape), 0):
        if axis not in axes and log_prob.shape[axis] != 1:
            log_prob = log_prob.sum(axis, keepdims=True)
    return log_prob


def data_shape(shape: Sequence[int], axes: set[int]) -> tuple[int, ...]:
    """The shape of the data in log weights of the given shape.

    Args:
        shape: The shape, without an axis of samples.
        axes: The axes of the plates that contain all sites, which count from the right.
    """
    return tuple(shape[axis] for axis in sorted(axes) if -axis <= len(shape))


def signed(guide: Mapping[str, Any], model: Mapping[str, Any]) -> list[Signed]:
    """The sample sites of guide and model, each with its sign in the log weight."""
    # A latent site that the guide lacks is drawn from the model itself, so its terms cancel and its
    # sign is 0.
    found = [(k, site, int(site.get("is_observed") or k in guide)) for k, site in model.items()]
    found += [(name, site, -1) for name, site in guide.items()]
    # Pyro's deterministic sites are left out: they have no density, and are often in no plate.
    found = [entry for entry in found if entry[1]["type"] == "sample"]
    found = [entry for entry in found if not entry[1]["infer"].get("_deterministic")]
    if not found:
        raise ValueError(
            "evidence_bounds got a model without sample sites; expected at least one, such as an "
            "observed one. Write the data as sample(..., obs=data)."
        )
    return found


def deltas(sites: Sites, delta: type, found: Iterable[Signed]) -> Iterator[tuple[str, Any, Any]]:
    """Refuse a guide that draws a discrete site from a continuous distribution.

    Args:
        sites: The backend's module for distributions of sites.
        delta: The framework's class Delta.
        found: The sites, as ``signed`` returns them.

    Yields:
        The discrete sites that the guide draws from a Delta, whose values the caller checks: the
        name, the model's distribution and the value.
    """
    found = list(found)
    model = {name: site for name, site, sign in found if sign == 1 and not site["is_observed"]}
    for name, site, sign in found:
        if sign == -1 and name in model and sites.kind(model[name]["fn"]) == "discrete":
            base = sites.innermost(site["fn"])
            if isinstance(base, delta):
                yield name, model[name]["fn"], site["value"]
            elif sites.kind(base) != "discrete":
                raise soft_guide(name, type(base).__name__)


def no_guide(*args: Any, **kwargs: Any) -> None:
    """An empty guide, for a model whose latent sites are all enumerated."""


def check_enumerable(sites: Sites, found: Mapping[str, Any]) -> int:
    """Refuse sites that can't be enumerated; return the number of dimensions of the plates."""
    for name, site in found.items():
        if site["scale"] is not None and float(site["scale"]) != 1:
            raise ValueError(
                f"exact_evidence got the site '{name}' with the scale {site['scale']}; expected 1, "
                "that of a whole model of all its data. Evaluate without subsampling and without "
                "scale handlers."
            )
        try:
            if not site["is_observed"]:
                site["fn"].enumerate_support()
        except NotImplementedError as error:
            raise ValueError(
                f"exact_evidence got the latent site '{name}' of "
                f"{type(sites.innermost(site['fn'])).__name__}; expected a discrete distribution "
                "that the framework enumerates, each dimension of it in a plate. Write the "
                "dimensions that to_event holds as plates; for a model with continuous sites take "
                "evidence_bounds."
            ) from error
    frames = [frame for site in found.values() for frame in site["cond_indep_stack"]]
    return max((-frame.dim for frame in frames if frame.dim is not None), default=0)


# The functions below make the errors of this module.


def traced(name: str) -> ValueError:
    """The error about a call inside jit or another transform of JAX, where no number is known."""
    return ValueError(
        f"{name} got traced arrays; expected arrays with numbers, since it returns numbers. Call "
        "it outside jit, grad, vmap, pmap and shard_map: arrays may be sharded over a mesh. "
        "See docs/devices.md."
    )


def soft_guide(name: str, got: str = "a Delta at another value") -> ValueError:
    """The error about a guide that can draw values which a discrete site can't take."""
    return ValueError(
        f"evidence_bounds got the site '{name}', which the discrete model draws from a discrete "
        f"distribution and the guide from {got}; expected a discrete or relaxed distribution in "
        "the guide as well. Evaluate with a guide whose own sites are relaxed, such as "
        "AutoRelaxed, or evaluate the relaxed model with the framework's ELBO. "
        "See docs/pairings.md."
    )
