"""A discrete distribution with an estimator: the code that both frameworks share."""

from collections.abc import Callable
from typing import Any

from relaxed_dists import _errors
from relaxed_dists._distributions import estimator_base, estimators
from relaxed_dists._distributions.from_family import FromFamily
from relaxed_dists._ops import Array


class Estimated(FromFamily):
    """A discrete distribution, whose values may carry an estimator's gradient."""

    estimator: Any
    _values: Any  # the framework's constraint for the values of a family
    _hard_support: Any  # the support of hard values
    _checked_temperature: Callable[..., Any]

    def _fit(self, estimator: Any) -> None:
        """Store an estimator, with its temperatures as arrays that fit the batch shape."""

        def fitted(given: Any) -> Any:
            temperature = self._fitted(given)
            cold = self._validate_args and isinstance(estimator, estimators.ReinMax)
            if cold and not self._framework.holds(temperature >= 1):
                raise _errors.too_cold(given)
            return temperature

        checked = estimator_base.checked(self._name, estimator)
        self.estimator = estimator_base.renewed(checked, fitted)

    def _fitted(self, given: Any, field: str = "temperature") -> Any:
        """A temperature of an estimator as an array that fits the batch shape."""
        temperature = self._checked_temperature(given, self.logits, self._validate_args, field)
        if self._joint_shape(temperature.shape, self.batch_shape) != self.batch_shape:
            shape = temperature.shape
            raise _errors.bad_temperature_shape(self._name, shape, self.batch_shape)
        return temperature

    def _temperature(self) -> Any:
        return None if self.estimator is None else self.estimator.soft_temperature

    @property
    def has_enumerate_support(self) -> bool:
        """Whether the distribution can be enumerated, which is so if it has no estimator."""
        return self.estimator is None

    @property
    def support(self) -> Any:
        """The support; with an estimator it has no transform to unconstrained space."""
        estimator = self.estimator
        if estimator is None:
            return self._hard_support
        return self._values(self._family, estimator.soft)

    @property
    def discrete(self) -> Any:
        """The same distribution without an estimator."""
        return self._as_discrete(type(self), self._family)

    def _refuse_mixed(self) -> None:
        """Refuse to score a site in an ELBO whose guide has a relaxed distribution at the site."""
        site = self._framework.relaxed_site(True)
        if site is not None and not site[2]:
            raise _errors.mixed(site[0], self._name, type(site[1]).__name__, "The ELBO")

    def enumerate_support(self, expand: bool = True) -> Array:
        """All values, of shape ``(number,) + batch_shape + event_shape``.

        Args:
            expand: Whether to expand the values to the batch shape; otherwise their batch axes
                have length 1.

        Raises:
            NotImplementedError: If the distribution has an estimator. In NumPyro also if the values
                are one-hot and NumPyro's enumeration calls this method, since NumPyro would treat
                the values as the numbers 0, 1, 2 and so on.
        """
        if self.estimator is not None:
            raise _errors.no_enumeration(self._name)
        return super().enumerate_support(expand)
