"""The parts of discretize that both backends share: calls without a temperature."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any


def needs_temperature(
    fn: Any, unwrap: Callable[[Any], Any], parts: Callable[[Any], Iterable[Any]]
) -> bool:
    """Whether a call without a temperature is an error, because the signature requires one.

    Args:
        fn: A model or a guide.
        unwrap: Returns the function inside a wrapper that hides its signature, or else None.
        parts: Returns the guides that a guide such as AutoGuideList is made of.
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
    temperature can be passed. The first call without a temperature checks that nothing else in the
    function depends on the temperature.

    Args:
        fn: The model or the guide.
        independent: Called with a function, its arguments and two temperatures; returns whether
            the function draws and scores the same at both temperatures.
    """

    def __init__(self, fn: Callable[..., Any], independent: Callable[..., bool]) -> None:
        self.fn, self._independent = fn, independent
        self._temperature: Any = None

    def check(self, fn: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
        """Find a temperature to call fn with; an error if the result depends on the temperature."""
        if self._temperature is not None or self._given(args, kwargs):
            return
        # The temperatures 1 and 2 are valid for every estimator: ReinMax refuses any below 1.
        found: Any = [1.0, 2.0]
        try:
            same = self._independent(fn, args, kwargs, *found)
        except TypeError as error:
            if "not subscriptable" not in str(error):  # fn expects a nest of temperatures
                raise
            found = [_Nest(t) for t in found]
            same = self._independent(fn, args, kwargs, *found)
        if not same:
            raise ValueError(
                "A discrete model or guide was called without a temperature, and it draws or "
                "scores differently at different ones, though its relaxed sites are discrete; "
                "expected temperature=, or one that only the relaxed distributions and estimators "
                "take. Pass temperature=, such as the last of the schedule. "
                "See docs/from-discrete-to-trained.md."
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
        """Call the function, with a temperature added if the arguments contain none."""
        self.check(self.fn, args, kwargs)
        if not self._given(args, kwargs):
            kwargs = {**kwargs, "temperature": self._temperature}
        return self.fn(*args, **kwargs)


class _Nest(dict[Any, float]):
    """A dict that has the same temperature under every key."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def __missing__(self, key: Any) -> float:
        return self._temperature


# The functions below make the errors of this module.


def no_counterpart(name: str) -> ValueError:
    """The error about a site whose distribution is a transformed relaxed one."""
    return ValueError(
        f"discretize got the site '{name}', whose distribution is made from a relaxed one by a "
        "transform; expected a relaxed distribution itself, or an estimated one. Draw from the "
        "relaxed distribution, and apply the transform to its value in the model."
    )
