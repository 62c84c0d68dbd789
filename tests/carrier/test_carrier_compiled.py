"""The relaxed sample that a value keeps, in and across code that torch compiles."""

import contextlib
import re
import shutil

import numpy as np
import pytest

from carrying import (
    LOGITS,
    LOST,
    RIGHT,
    TEMPERATURE,
    VIEWS,
    WRITES,
    check,
    check_inside,
    compiled,
    density,
    hard,
    inside,
    make,
    needs_torch,
    outcome,
)
from cases import STRAIGHT_THROUGH
from harness import Torch, one_graph, scalar_code, torch

INDUCTOR = pytest.param(
    "inductor",
    marks=[
        pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler"),
        # Inductor's first import defines a torch.jit.script_method, which torch deprecates itself.
        pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning"),
    ],
)


@needs_torch
@pytest.mark.parametrize("compiler", ["eager", "aot_eager", INDUCTOR])
def test_compiled_code_of_any_shape(
    compiler: str, seed: int, whole: bool, request: pytest.FixtureRequest
) -> None:
    """One graph for any shape of logits: densities and gradients are right, a write raises.

    The inductor makes scalar code, since the headers for vectors take most of the time to compile.
    With --whole it makes the processor's vector code.
    """
    backend, name = Torch(), STRAIGHT_THROUGH[0]
    of_any_shape = one_graph(inside(backend, name), dynamic=True, backend=compiler)
    contexts = contextlib.ExitStack()
    request.addfinalizer(contexts.close)
    if compiler == "inductor" and not whole:
        contexts.enter_context(scalar_code())
    generator = np.random.default_rng(seed)
    for shape in [(3, 4), (5, 7)]:
        rows = generator.normal(0, 1, shape)
        logits = backend.array(rows).requires_grad_()
        value, y, log_prob = of_any_shape(logits)
        expected = density(name, backend.numpy(y), TEMPERATURE, rows)
        np.testing.assert_allclose(backend.numpy(log_prob), expected, 1e-9)
        # The gradient through the draw and the density is -(1 - K x) / t.
        (grad,) = torch.autograd.grad(log_prob.sum(), logits)
        path = -(1 - shape[1] * np.exp(backend.numpy(y))) / TEMPERATURE
        np.testing.assert_allclose(backend.numpy(grad), path, 1e-8, 1e-8)
        np.testing.assert_array_equal(backend.numpy(value), hard(name, backend.numpy(y)))
    writing = one_graph(inside(backend, name, WRITES["item"]), backend=compiler)
    text = (
        "log_prob got a value that has lost the relaxed sample behind it, since compiled code "
        "wrote to it in place; expected the value as it was drawn. Write to a copy of it. See "
        "docs/lost-samples.md."
    )
    # The error is raised while torch compiles, so torch wraps the ValueError in another error.
    with pytest.raises(torch._dynamo.exc.InternalTorchDynamoError, match=re.escape(text)):
        writing(backend.array(LOGITS))


@needs_torch
@pytest.mark.parametrize("there", ["outside", "compiled"])
@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_out_of_compiled_code(name: str, there: str) -> None:
    """A value from compiled code has the right density, outside and in other compiled code.

    After a write to the value there is an error, except that outside compiled code a simplex value
    is scored by its new numbers, to 1e-6.
    """
    backend = Torch()
    d = make(backend, name)
    score = {"outside": d.log_prob, "compiled": lambda z: compiled(d.log_prob, z)}[there]
    value, y, _ = compiled(inside(backend, name), backend.array(LOGITS))
    check(RIGHT, lambda: score(value), density(name, backend.numpy(y), TEMPERATURE), backend)
    # Rows of hard values may be equal to each other; none is equal to its complement.
    value.copy_(1 - value if name in STRAIGHT_THROUGH else value.flip(0))
    result = outcome(lambda: score(value))
    if there == "compiled" or name in STRAIGHT_THROUGH:
        assert result is LOST
    else:
        expected = density(name, backend.numpy(y.flip(0)), TEMPERATURE)
        np.testing.assert_allclose(backend.numpy(result), expected, 1e-6)


@needs_torch
@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_a_break_in_the_graph_keeps_it(name: str) -> None:
    """The value keeps its sample over a graph break between the draw and log_prob."""
    function = inside(Torch(), name, lambda z: torch._dynamo.graph_break())
    check_inside(Torch(), name, torch.compile(function, backend="aot_eager")(Torch().array(LOGITS)))
