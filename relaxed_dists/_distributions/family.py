"""A family of distributions, written once over the array operations of a framework.

A family is a small immutable object with the formulas of a distribution: the draw from noise, the
density, the moments and the support. Each backend has one adapter that makes a distribution of its
framework from a family. Families are hashable and compare by their fields, since JAX requires this
of static data.

A draw may keep a sample behind its value: an array, such as the log of the value, from which the
density is computed without the value's rounding.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from relaxed_dists import _errors
from relaxed_dists._ops import Array, QuadratureOps


class Parameters(NamedTuple):
    """The parameters of a distribution, in the dtype to compute in."""

    logits: Array
    temperature: Any
    """The temperature, of the batch shape; None for a discrete family with hard values."""
    tiny: float = 0.0
    """The smallest normal number of the value's dtype."""
    eps: float = 0.0
    """The spacing of the value's dtype at 1."""


class Family:
    """The interface of a family.

    A family also has those of the following methods whose formulas are known: ``mean``,
    ``variance``, ``mode`` and ``entropy``, which take ``(ops, p)``; ``cdf(ops, p, value, sample)``;
    ``icdf(ops, p, q)``; and ``kl(ops, other, p, q)``, where ``other`` is the family of ``q``.
    """

    event_dim: ClassVar[int] = 1
    """How many of the last axes of logits and values are one event."""

    space: ClassVar[str] = ""
    """The name of the sample that a draw keeps behind its value; empty if there is no sample."""

    noun: ClassVar[str] = "points of the simplex"
    """A noun for the values, which error messages use."""

    remedy: ClassVar[str] = "Apply softmax to scores."
    """The advice of an error message about a value off the support."""

    needs_sample: ClassVar[bool] = False
    """Whether the density can't be computed without the sample behind a value."""

    scores_value: ClassVar[bool] = False
    """Whether the density is computed from the value even if there is a sample behind it."""

    checks_logits: ClassVar[bool] = False
    """Whether ``checked`` and ``possible`` must check the logits' shape and masks (-inf)."""

    noise_in_kernel: ClassVar[bool] = False
    """Whether ``draw`` passes the noise only to kernels, a framework's faster versions of formulas.

    A kernel may itself make the noise, from a seed.
    """

    is_discrete: ClassVar[bool] = False
    """Whether the support is discrete."""

    broadcasts: ClassVar[bool] = False
    """Whether ``log_prob`` takes logits of fewer axes than the value has."""

    counts: ClassVar[bool] = False
    """Whether the values are 0, 1, 2 and so on, as NumPyro's enumeration assumes."""

    lacks: ClassVar[Mapping[str, Callable[[str], Exception]]] = {}
    """Special errors about methods that the family lacks, by the name of the method."""

    lost: ClassVar[Any] = None
    """The error about a value without its sample, in an ELBO whose gradient needs the sample."""

    rounded: Callable[..., Array] | None = None
    """A method ``(ops, p, value)``: which values are too rounded to determine their density."""

    own_log_prob: Callable[..., Array] | None = None
    """A method ``(ops, p, sample, value)``: the log density of a sample drawn from p."""

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, Array | None]:
        """A value made from noise, and the sample to keep behind it, or None.

        Args:
            ops: The framework's operations.
            p: The parameters.
            noise: Noise of the value's shape: logistic if an event is a number, else Gumbel.
        """
        raise NotImplementedError

    def log_prob(self, ops: QuadratureOps, p: Parameters, value: Array, sample: Any) -> Array:
        """The log density of a value; ``sample`` is the sample behind the value, or None."""
        raise NotImplementedError

    def valid(self, ops: QuadratureOps, value: Array, slack: float, soft: bool = False) -> Array:
        """Whether each event is on the support.

        Args:
            ops: The framework's operations.
            value: One or several events.
            slack: The largest error that rounding may cause in the sum of an event's entries.
            soft: Whether a discrete family's value comes from an estimator with soft values.
        """
        raise NotImplementedError

    def probs(self, ops: QuadratureOps, p: Parameters) -> Array:
        """The probability of each category, or of the value 1."""
        return ops.sigmoid(p.logits)

    def discrete_logits(self, ops: QuadratureOps, p: Parameters) -> Array:
        """The logits of the discrete counterpart of the distribution."""
        return p.logits

    def possible(self, logits: Any) -> bool:
        """Whether the masks (-inf) in logits, a NumPy array, leave at least one value."""
        return True

    def impossible(self, name: str, logits: Any) -> Exception:
        """The error about masks under which no value is possible."""
        raise NotImplementedError

    @property
    def scored_as(self) -> type:
        """The family class whose density scores the values. A divergence needs equal classes."""
        return type(self)

    def checked(self, name: str, event_shape: Any) -> "Family":
        """The family, after its fields, such as k, are checked against the shape of an event."""
        return self

    @property
    def support_name(self) -> str:
        """The name of the support, if the framework has no constraint for it."""
        return type(self).__name__

    def feasible(self, event_shape: Any) -> Any:
        """An event on the support, as a NumPy array."""
        raise NotImplementedError

    def no_transform(self) -> Exception:
        """The error about a sampler or an autoguide that would transform values to real numbers."""
        return _errors.discrete_site(self.noun)

    def no_integers(self, name: str) -> Exception:
        """The error about an enumeration that treats the values as 0, 1, 2 and so on."""
        return _errors.no_integers(name)

    def method(self, what: str, name: str) -> Callable[..., Any]:
        """The method named ``what``; an error if the family lacks this method."""
        if what in self.lacks:
            raise self.lacks[what](name)
        found = getattr(self, what, None)
        if found is None:
            raise _errors.missing(name, what, self)
        return found  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))


class HardValue(Family):
    """A relaxed family with hard values, whose moments and mode are those of a discrete family."""

    discrete: Family

    def method(self, what: str, name: str) -> Callable[..., Any]:
        """The method named ``what``; moments and mode are those of the discrete family."""
        if what not in ("mean", "variance", "mode"):
            return super().method(what, name)
        found = self.discrete.method(what, name)
        return lambda ops, p: found(ops, p._replace(temperature=None))
