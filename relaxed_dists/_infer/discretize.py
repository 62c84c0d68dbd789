"""What both backends share of discretize: models that are called without a temperature."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def needs_temperature(
    fn: Any, unwrap: Callable[[Any], Any], parts: Callable[[Any], Iterable[Any]]
) -> bool:
    """Whether a call without a temperature is an error: the signature asks for one.

    Args:
        fn: A model or a guide.
        unwrap: From a wrapper whose signature hides it to what is wrapped; else None.
        parts: From a guide to the guides that it is made of.
    """
    if getattr(fn, "_needs_temperature", False):
        return True
    if any(needs_temperature(part, unwrap, parts) for part in parts(fn)):
        return True
    inner = unwrap(fn)
    if inner is not None:
        return needs_temperature(inner, unwrap, parts)
    try:
        parameter = inspect.signature(fn).parameters.get("temperature")
    except (TypeError, ValueError):  # a callable without a signature
        return False
    return parameter is not None and parameter.default is parameter.empty


class AtAnyTemperature:
    """A model or guide whose sites are made discrete, which can be called without a temperature.

    A discrete distribution does not depend on the temperature of the relaxed one, so any
    temperature will do. The first call without one looks whether anything else depends on it.

    Args:
        fn: The model or the guide.
        independent: From the function, its arguments and two temperatures to whether it draws and
            scores the same at both.
    """

    def __init__(self, fn: Callable[..., Any], independent: Callable[..., bool]) -> None:
        self.fn, self._independent = fn, independent
        self._temperature: Any = None

    def look(self, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
        """Find a temperature that fn can be called with; an error if it matters which."""
        if self._temperature is not None or self._given(args, kwargs):
            return
        # 1 and 2 are in the range of every estimator.
        found: Any = [1.0, 2.0]
        try:
            fine = self._independent(fn, args, kwargs, *found)
        except TypeError as error:
            if "not subscriptable" not in str(error):  # it takes a nest of temperatures
                raise
            found = [_Nest(t) for t in found]
            fine = self._independent(fn, args, kwargs, *found)
        if not fine:
            raise ValueError(
                "A discrete model or guide was called without a temperature, and it draws or "
                "scores differently at different ones, though its relaxed sites are discrete; "
                "expected temperature=, or one that only the relaxed distributions and estimators "
                "take. Pass temperature=, such as the last of the schedule."
            )
        self._temperature = found[0]

    def _given(self, args: Any, kwargs: dict[str, Any]) -> bool:
        if "temperature" in kwargs:
            return True
        try:
            return "temperature" in inspect.signature(self.fn).bind_partial(*args).arguments
        except (TypeError, ValueError):
            return False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, with a temperature."""
        self.look(self.fn, args, kwargs)
        if not self._given(args, kwargs):
            kwargs = {**kwargs, "temperature": self._temperature}
        return self.fn(*args, **kwargs)


class _Nest(dict[Any, float]):
    """One temperature under every key."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def __missing__(self, key: Any) -> float:
        return self._temperature


# The messages.


def no_moments(name: str) -> NotImplementedError:
    """Moments of infinite values."""
    return NotImplementedError(
        f"{name} has no mean and no variance, since its values are infinite; expected a law of "
        "finite ones. Use the discrete law of the site that the model computes from it."
    )


def no_twin(name: str) -> ValueError:
    """A site whose law is a transformed relaxed one."""
    return ValueError(
        f"discretize got the site '{name}', whose law is made from a relaxed one by a transform; "
        "expected a relaxed law itself, or an estimated one. Draw from the relaxed law, and apply "
        "the transform to its value in the model."
    )
