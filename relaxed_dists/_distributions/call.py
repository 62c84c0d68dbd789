"""A call of a function, such as sample_concrete, as a distribution made from a family.

A family has the formulas of a distribution, for any framework.
"""

from typing import Any

from relaxed_dists import _errors
from relaxed_dists._distributions.family import Family
from relaxed_dists._distributions.from_family import FromFamily


class Call(FromFamily):
    """A mixin for such a distribution: its messages name the function, not a class."""

    _name = ""

    def __init__(self, name: str, family: Family, *given: Any, **parameters: Any) -> None:
        self._name, self._family = name, family
        super().__init__(*given, **parameters)

    @property
    def _scorer(self) -> str:
        return self._name

    def _rounded(self, seen: bool) -> ValueError:
        binary = not self._family.event_dim
        draw = "sample_logit_concrete" if binary else "sample_exp_concrete"
        return _errors.rounded(self._name, binary, seen, f"a draw of {draw}")
