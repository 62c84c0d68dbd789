"""Temperature schedules: their formulas, and the kinds of step that they accept."""

import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from relaxed_dists import schedules
from relaxed_dists._infer.svi import at_step, checked
from relaxed_dists.schedules import (
    constant,
    cosine,
    exponential,
    inverse_time,
    join,
    linear,
    piecewise,
    polynomial,
    warmup,
)

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
    "inverse_time": (inverse_time(2.0, 0.1, 0.4), lambda s: max(0.4, 2.0 / (1 + 0.1 * s))),
    "polynomial": (
        polynomial(1.0, 0.4, 50, power=1.5),
        lambda s: 0.4 + 0.6 * (1 - min(s / 50, 1)) ** 1.5,
    ),
    "piecewise": (
        piecewise(1.0, {50: 0.4, 10: 0.7}),
        lambda s: 1.0 if s < 10 else 0.7 if s < 50 else 0.4,
    ),
    "join": (
        # The exponential would overflow before its own steps, where it is not used.
        join([linear(2.0, 1.0, 10), constant(0.9), exponential(0.8, 99.0, 0.4)], [10, 50]),
        lambda s: 2.0 - 0.1 * s if s < 10 else 0.9 if s < 50 else 0.8 if s == 50 else 0.4,
    ),
    "warmup": (warmup(linear(1.0, 0.4, 41), 10), lambda s: 1.0 - 0.6 * min(max(s - 10, 0) / 41, 1)),
    "warmup of join": (
        warmup(join([constant(1.0), linear(0.7, 0.4, 10)], [39]), 10),
        lambda s: 1.0 if s < 49 else 0.7 - 0.3 * min((s - 49) / 10, 1),
    ),
}
STEPS = [0, 1, 9, 10, 49, 50, 51, 1000]
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def test_each_schedule_is_in_the_table_and_in_the_picture(tmp_path: Path) -> None:
    """The picture shows all public names except the type."""
    names = set(schedules.__all__) - {"Schedule"}
    assert names <= set(SCHEDULES)
    pytest.importorskip("matplotlib")
    script = Path(__file__).parents[2] / "docs/examples/schedules_picture.py"
    calls = runpy.run_path(str(script))["CALLS"]
    assert names == {call.partition("(")[0] for call in calls}
    out = tmp_path / "schedules.png"
    subprocess.run([sys.executable, "-W", "error", str(script), str(out)], check=True)
    assert out.read_bytes().startswith(b"\x89PNG")


@every_schedule
def test_python_and_numpy_steps(name: str) -> None:
    """A Python step gives a Python float, and an array of steps gives an array."""
    schedule, formula = SCHEDULES[name]
    expected = [formula(s) for s in STEPS]
    assert all(type(schedule(s)) is float for s in STEPS)
    np.testing.assert_allclose([schedule(s) for s in STEPS], expected, rtol=1e-12)
    np.testing.assert_allclose(schedule(np.array(STEPS)), expected, rtol=1e-12)


@every_schedule
def test_torch_steps(name: str) -> None:
    """A tensor of integers gives a tensor."""
    torch = pytest.importorskip("torch")
    schedule, formula = SCHEDULES[name]
    result = schedule(torch.tensor(STEPS))
    assert isinstance(result, torch.Tensor)
    np.testing.assert_allclose(result.numpy(), [formula(s) for s in STEPS], rtol=1e-6)


@every_schedule
def test_jax_steps(name: str) -> None:
    """Schedules run under jit, vmap and scan."""
    jax = pytest.importorskip("jax")
    schedule, formula = SCHEDULES[name]
    expected, steps = [formula(s) for s in STEPS], jax.numpy.array(STEPS)
    np.testing.assert_allclose(jax.jit(schedule)(steps), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(schedule)(steps), expected, rtol=1e-6)
    scanned = jax.lax.scan(lambda s, _: (s + 1, schedule(s)), 0, length=60)[1]
    np.testing.assert_allclose(scanned, [formula(s) for s in range(60)], rtol=1e-6)


@every_schedule
def test_no_schedule_is_ever_below_its_last_temperature(name: str) -> None:
    """In float32 no step, however late, is below 0.4 or 0.5 (0.7 for the constant)."""
    jax = pytest.importorskip("jax")
    steps = jax.numpy.array([*range(200), 10**6, 2**31 - 1])
    lowest = {"constant": 0.7, "exponential": 0.5}.get(name, 0.4)
    assert float(SCHEDULES[name][0](steps).min()) >= np.float32(lowest) * (1 - 2**-23)


def test_optax_agrees() -> None:
    """Schedules equal optax's; its piecewise constant schedule has factors in place of values."""
    optax = pytest.importorskip("optax")
    pairs = [
        (polynomial(1.0, 0.4, 50, 1.5), optax.polynomial_schedule(1.0, 0.4, 1.5, 50)),
        (
            piecewise(1.0, {10: 0.5, 50: 0.1}),
            optax.piecewise_constant_schedule(1, {10: 0.5, 50: 0.2}),
        ),
        (
            join([linear(1.0, 0.5, 9), cosine(0.8, 0.4, 40)], [10]),
            optax.join_schedules(
                [optax.linear_schedule(1.0, 0.5, 9), optax.cosine_decay_schedule(0.8, 40, 0.5)],
                [10],
            ),
        ),
    ]
    for ours, theirs in pairs:
        steps = np.arange(100)
        np.testing.assert_allclose(ours(steps), [theirs(s) for s in steps], rtol=1e-6)


def test_a_joined_schedule_of_python_steps_calls_one_schedule_with_a_python_step() -> None:
    """An inner schedule may be a list's __getitem__, which accepts only Python integers."""
    table = [0.9, 0.8, 0.7]
    schedule = warmup(join([constant(1.0), table.__getitem__], [5]), 2)
    assert [schedule(s) for s in range(6, 10)] == [1.0, 0.9, 0.8, 0.7]


GIVEN = {
    constant: {"value": 1.0},
    linear: {"start": 1.0, "stop": 0.5, "steps": 10},
    exponential: {"start": 1.0, "rate": 0.1, "floor": 0.5, "every": 2},
    cosine: {"start": 1.0, "stop": 0.5, "steps": 10},
    inverse_time: {"start": 1.0, "rate": 0.1, "floor": 0.5},
    polynomial: {"start": 1.0, "stop": 0.5, "steps": 10, "power": 2.0},
    piecewise: {"start": 1.0},
    warmup: {"steps": 10},
}


@pytest.mark.parametrize("bad", [None, "1", [1.0], np.ones(2), Decimal(1), Fraction(1)], ids=repr)
@pytest.mark.parametrize("make", GIVEN, ids=lambda make: make.__name__)
def test_what_is_not_a_number_is_refused(make: Callable[..., object], bad: object) -> None:
    """Each argument of each schedule that is not a number is named in the error."""
    more = {piecewise: {"changes": {}}, warmup: {"schedule": constant(1.0)}}.get(make, {})
    for name in GIVEN[make]:
        with pytest.raises(ValueError, match=rf"got {name}=[\s\S]*; expected a .*finite number"):
            make(**{**GIVEN[make], **more, name: bad})
    assert make(**GIVEN[make], **more)(0) == 1.0


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
        (
            lambda: inverse_time(1.0, -1.0, 0.5),
            r"got rate=-1.0; .* Give the decay per step as a posi",
        ),
        (lambda: inverse_time(1.0, 0.1, 0.0), r"got floor=0.0"),
        (lambda: polynomial(1.0, 0.5, 10, 0.0), r"got power=0.0; .* Give a power above zero"),
        (lambda: polynomial(0.0, 0.5, 10, 1.0), r"got start=0.0"),
        (lambda: piecewise(1.0, {0: 0.5}), r"got step=0; .* Give a step above zero"),
        (lambda: piecewise(1.0, {5: -0.5}), r"got temperature=-0.5; expected"),
        (lambda: piecewise(math.nan, {}), r"got start=nan"),
        (lambda: warmup(constant(1.0), 0), r"got steps=0"),
        (
            lambda: join([constant(1.0)] * 2, [3, 2]),
            r"^join got 2 schedules and the boundaries \[3, 2\]; expected one boundary fewer than "
            r"schedules, increasing and above 0. Give the first step of each schedule but the f",
        ),
        (lambda: join([constant(1.0)] * 3, [3, 2]), r"got 3 schedules and the boundaries \[3, 2\]"),
        (lambda: join([constant(1.0)] * 3, [3, 3]), r"the boundaries \[3, 3\]"),
        (lambda: join([constant(1.0)] * 2, [0]), r"the boundaries \[0\]"),
        (lambda: join([], []), r"join got 0 schedules"),
        (
            lambda: checked(at_step({"a": 1.0, "b": [constant(0.5), lambda s: -s]}, 2)),
            r"schedule temperature\['b'\]\[1\] yielded -2; expected positive finite numbers",
        ),
        (lambda: checked(-0.5), r"schedule yielded -0.5; .* Give the schedule a floor above zero"),
        (lambda: checked(np.array([1.0, np.nan])), r"schedule yielded \[ 1. nan\]"),
    ],
)
def test_bad_input(make: object, text: str) -> None:
    """The errors say what was got, what was expected and what to do."""
    with pytest.raises(ValueError, match=text):
        make()


def test_repr() -> None:
    """The repr of a schedule is the call that made it."""
    schedule = warmup(join([linear(2.0, 1.0, steps=10), constant(0.5)], [10]), steps=5)
    inside = "join([linear(2.0, 1.0, steps=10), constant(0.5)], [10])"
    assert repr(schedule) == f"warmup({inside}, steps=5)"
