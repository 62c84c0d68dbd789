"""Temperature schedules: their formulas, and the kinds of step that they take."""

import math

import numpy as np
import pytest

from relaxed_dists.schedules import checked, constant, cosine, exponential, linear

SCHEDULES = {
    "constant": (constant(0.7), lambda s: 0.7),
    "linear": (linear(1.0, 0.4, 50), lambda s: 1.0 - 0.6 * min(s / 50, 1)),
    "exponential": (
        exponential(2.0, 0.01, 0.5, every=10),
        lambda s: max(0.5, 2.0 * math.exp(-0.01 * (s // 10) * 10)),
    ),
    "cosine": (
        cosine(1.0, 0.4, 50),
        lambda s: 0.4 + 0.3 * (1 + math.cos(math.pi * min(s / 50, 1))),
    ),
}
STEPS = [0, 1, 9, 10, 49, 50, 51, 1000]
schedules = pytest.mark.parametrize("name", SCHEDULES)


@schedules
def test_python_and_numpy_steps(name: str) -> None:
    """A Python step gives a Python float, an array an array."""
    schedule, formula = SCHEDULES[name]
    expected = [formula(s) for s in STEPS]
    assert all(type(schedule(s)) is float for s in STEPS)
    np.testing.assert_allclose([schedule(s) for s in STEPS], expected, rtol=1e-12)
    np.testing.assert_allclose(schedule(np.array(STEPS)), expected, rtol=1e-12)


@schedules
def test_torch_steps(name: str) -> None:
    """A tensor of integers gives a tensor."""
    torch = pytest.importorskip("torch")
    schedule, formula = SCHEDULES[name]
    result = schedule(torch.tensor(STEPS))
    assert isinstance(result, torch.Tensor)
    np.testing.assert_allclose(result.numpy(), [formula(s) for s in STEPS], rtol=1e-6)


@schedules
def test_jax_steps(name: str) -> None:
    """Traced by jit, vmap and scan."""
    jax = pytest.importorskip("jax")
    schedule, formula = SCHEDULES[name]
    expected, steps = [formula(s) for s in STEPS], jax.numpy.array(STEPS)
    np.testing.assert_allclose(jax.jit(schedule)(steps), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(schedule)(steps), expected, rtol=1e-6)
    scanned = jax.lax.scan(lambda s, _: (s + 1, schedule(s)), 0, length=60)[1]
    np.testing.assert_allclose(scanned, [formula(s) for s in range(60)], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: constant(0.0), r"got value=0.0; expected a positive finite number"),
        (lambda: linear(1.0, -1.0, 10), r"got stop=-1.0; .* Give a stop above zero"),
        (lambda: linear(1.0, 0.5, 0), r"got steps=0"),
        (lambda: cosine(math.inf, 0.5, 10), r"got start=inf"),
        (lambda: exponential(1.0, -0.1, 0.5), r"got rate=-0.1; expected a finite number of at"),
        (lambda: exponential(1.0, 0.1, 0.0), r"got floor=0.0"),
        (lambda: exponential(1.0, 0.1, 0.5, every=0), r"got every=0"),
        (lambda: checked(-0.5), r"schedule yielded -0.5; .* Give the schedule a floor above zero"),
        (lambda: checked(np.array([1.0, np.nan])), r"schedule yielded \[ 1. nan\]"),
    ],
)
def test_bad_input(make: object, text: str) -> None:
    """What was got, what was expected, what to do."""
    with pytest.raises(ValueError, match=text):
        make()
