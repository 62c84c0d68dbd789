"""The relaxed sample that a value keeps, when handlers pass the value to a site."""

from collections.abc import Callable
from typing import Any

import pytest

from carrying import (
    FACTOR,
    LOST,
    MASK,
    RIGHT,
    SITES,
    TEMPERATURE,
    cells,
    check,
    density,
    enter,
    letter,
    pair,
)
from cases import STRAIGHT_THROUGH
from harness import Backend, Torch, poutine

# Ways to pass a value to a program, from the handlers, the program, the value and its trace.
GIVEN: dict[str, tuple[Callable[[Any, Any, Any, Any], Any], str]] = {
    "replay": (lambda h, f, z, drawn: h.replay(f, trace=drawn), RIGHT),
    "condition": (lambda h, f, z, drawn: h.condition(f, data={"z": z}), RIGHT),
    "block": (lambda h, f, z, drawn: h.block(h.replay(f, trace=drawn), hide=["x"]), RIGHT),
    "uncondition": (lambda h, f, z, drawn: h.replay(h.uncondition(f), trace=drawn), RIGHT),
    "copy": (lambda h, f, z, drawn: h.condition(f, data={"z": z + 0}), LOST),
}
HANDLERS: dict[str, dict[str, tuple[Callable[[Any, Any, Any, Any], Any], str]]] = {
    "pyro": {
        **GIVEN,
        "detached trace": (
            lambda h, f, z, drawn: (drawn.detach_(), h.replay(f, trace=drawn))[1],
            LOST,
        ),
    },
    "numpyro": {
        **GIVEN,
        "substitute": (lambda h, f, z, drawn: h.substitute(f, data={"z": z}), RIGHT),
        "substitute a copy": (lambda h, f, z, drawn: h.substitute(f, data={"z": z + 0}), LOST),
    },
}


def log_prob_of_site(backend: Backend, program: Any) -> Any:
    """The log density of the program's site z, not summed."""
    if isinstance(backend, Torch):
        trace = poutine.trace(program).get_trace()
        trace.compute_log_prob()
        return trace.nodes["z"]["log_prob"]
    from numpyro.infer.util import compute_log_probs

    return compute_log_probs(program, (), {}, {}, sum_log_prob=False)[0]["z"]


@cells(HANDLERS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_each_way_of_a_handler(framework: str, way: str, name: str, site: str, seed: int) -> None:
    """A site that gets the value by a handler has its density, scaled and masked, or the error."""
    handler, cell = HANDLERS[framework][way]
    backend, context = enter(framework)
    ppl, h = backend.ppl, backend.handlers
    with context:
        if way == "uncondition" and not hasattr(h, way):
            pytest.skip("NumPyro has this handler from 0.20 on")
        d, value, y = pair(backend, name, seed)
        d = d.to_event(0 if letter(name) == "O" else 1)
        mask = backend.array(MASK, "bool")

        def program() -> Any:
            return SITES[site](ppl, h, d, mask)

        drawn = h.trace(h.condition(program, data={"z": value})).get_trace()
        getattr(drawn, "nodes", drawn)["z"]["is_observed"] = False  # as if the program had drawn it
        expected = density(name, y, TEMPERATURE)
        expected = expected if letter(name) == "O" else expected.sum(-1)
        given = handler(h, program, value, drawn)
        expected = expected * FACTOR.get(site, 1)
        check(cell, lambda: log_prob_of_site(backend, given), expected, backend)
