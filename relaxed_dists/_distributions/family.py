"""A family of distributions, written once over the array operations of a framework.

A family is a small frozen object: how a value is drawn from noise, its density, moments and
support. Each backend has one adapter that makes a distribution of its framework from a family.
Families are hashable and compare by their fields, since JAX takes them as static data.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from relaxed_dists import _errors
from relaxed_dists._ops import Array, QuadratureOps


class Parameters(NamedTuple):
    """The parameters of a distribution, in the dtype to compute in."""

    logits: Array
    temperature: Any
    """Of the batch shape; in a discrete family that of soft values, or None where they are hard."""
    tiny: float = 0.0
    """The smallest normal number of the value's dtype."""
    eps: float = 0.0
    """The spacing of that dtype at 1."""


class Family:
    """The interface of a family.

    Besides these a family has methods for what is known of it, which take ``(ops, p)``: ``mean``,
    ``variance``, ``mode`` and ``entropy``; ``cdf(ops, p, value, sample)``; ``icdf(ops, p, q)``; and
    ``kl(ops, other, p, q)`` of two members.
    """

    event_dim: ClassVar[int] = 1
    """How many of the last axes of logits and values are one event."""

    space: ClassVar[str] = ""
    """The name of what a draw keeps behind its value; empty if nothing."""

    noun: ClassVar[str] = "points of the simplex"
    """The values, in messages."""

    remedy: ClassVar[str] = "Apply softmax to scores."
    """What to do about other values, in messages."""

    needs_sample: ClassVar[bool] = False
    """Whether a value without the sample behind it has no density."""

    scores_value: ClassVar[bool] = False
    """Whether a density is that of the value itself also where a sample is behind it."""

    checks_logits: ClassVar[bool] = False
    """Whether the fields and the masks are checked with the logits."""

    is_discrete: ClassVar[bool] = False
    """Whether the support is discrete."""

    counts: ClassVar[bool] = False
    """Whether the values are 0, 1, 2 and so on, as NumPyro's enumeration takes them to be."""

    lacks: ClassVar[Mapping[str, Callable[[str], Exception]]] = {}
    """The errors about what the family lacks, where they say more than the usual one."""

    lost: ClassVar[Any] = None
    """The error about a value in an ELBO whose gradient is lost with the sample behind it."""

    rounded: Callable[..., Array] | None = None
    """Which values are rounded so that their density is not known: takes ``(ops, p, value)``."""

    own_log_prob: Callable[..., Array] | None = None
    """The log density of a draw from these very parameters: takes ``(ops, p, sample)``."""

    def draw(self, ops: QuadratureOps, p: Parameters, noise: Array) -> tuple[Array, Array | None]:
        """A value made from noise, and what is kept behind it.

        Args:
            ops: The framework's operations.
            p: The parameters.
            noise: Gumbel noise, or logistic noise where an event is a number; of the value's shape.
        """
        raise NotImplementedError

    def log_prob(self, ops: QuadratureOps, p: Parameters, value: Array, sample: Any) -> Array:
        """The log density of a value, from the sample behind it if that is not None."""
        raise NotImplementedError

    def valid(self, ops: QuadratureOps, value: Array, slack: float, soft: bool = False) -> Array:
        """Whether each event is on the support.

        Args:
            ops: The framework's operations.
            value: Events.
            slack: How far rounding may take the sum of an event's entries from 1.
            soft: Whether a discrete family's value comes from an estimator with soft values.
        """
        raise NotImplementedError

    def probs(self, ops: QuadratureOps, p: Parameters) -> Array:
        """The probabilities."""
        return ops.sigmoid(p.logits)

    def discrete_logits(self, ops: QuadratureOps, p: Parameters) -> Array:
        """The logits of the discrete counterpart."""
        return p.logits

    def possible(self, logits: Any) -> bool:
        """Whether the masks in logits, a NumPy array, leave a value."""
        return True

    def impossible(self, name: str, logits: Any) -> Exception:
        """The error about masks that leave none."""
        raise NotImplementedError

    @property
    def scored_as(self) -> type:
        """The family whose density its values have: only between members is there a divergence."""
        return type(self)

    def checked(self, name: str, event_shape: Any) -> "Family":
        """The family, with its fields checked against the shape of an event."""
        return self

    @property
    def support_name(self) -> str:
        """The name of the support where no constraint of the framework is."""
        return type(self).__name__

    def feasible(self, event_shape: Any) -> Any:
        """An event on the support, as NumPy's."""
        raise NotImplementedError

    def no_transform(self) -> Exception:
        """The error about a sampler or an autoguide that would move through the values."""
        return _errors.discrete_site(self.noun)

    def no_integers(self, name: str) -> Exception:
        """The error about an enumeration that takes the values to be 0, 1, 2 and so on."""
        return _errors.no_integers(name)

    def method(self, what: str, name: str) -> Callable[..., Any]:
        """The method of that name; else the error about a distribution that lacks it."""
        if what in self.lacks:
            raise self.lacks[what](name)
        found = getattr(self, what, None)
        if found is None:
            raise _errors.missing(name, what)
        return found  # type: ignore[no-any-return]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))


class HardValue(Family):
    """A relaxed family with hard values, whose moments are those of the discrete family."""

    discrete: Family

    def method(self, what: str, name: str) -> Callable[..., Any]:
        """The method of that name, the discrete family's for moments."""
        if what not in ("mean", "variance", "mode"):
            return super().method(what, name)
        found = self.discrete.method(what, name)
        return lambda ops, p: found(ops, p._replace(temperature=None))
