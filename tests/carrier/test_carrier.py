"""The sample behind a value, which only the drawn object keeps: copies don't have it.

The sample behind a value is the relaxed log value or logit that a simplex, binary or
straight-through value was computed from. The carrier is what keeps it with the value.
"""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_softmax

from carrying import (
    LOGITS,
    SPACE,
    TEMPERATURE,
    VIEWS,
    density,
    hard,
    letter,
    lost,
    make,
    pair,
    rounded,
)
from cases import STRAIGHT_THROUGH
from harness import Backend

# Tests of the very object that was drawn.


@pytest.mark.share("backend", "name")
@pytest.mark.parametrize("shape", [(), (2, 5)])
@pytest.mark.parametrize("t", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_a_value_is_scored_by_the_relaxed_sample_behind_it(
    backend: Backend, name: str, t: float, shape: tuple[int, ...], seed: int
) -> None:
    """log_prob equals the relaxed density at the log value of the same seed, to 1e-9.

    A share of the cases runs each temperature and each shape with each distribution.
    """
    d, value, y = pair(backend, name, seed, t, shape)
    for _ in range(2):  # the second call finds the sample as well
        np.testing.assert_allclose(backend.numpy(d.log_prob(value)), density(name, y, t), 1e-9)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_the_forward_value_is_exactly_hard(backend: Backend, name: str, seed: int) -> None:
    """Values are exactly 0 or 1: 1 at the largest category, or where the logit is positive."""
    _, value, y = pair(backend, name, seed, shape=(1000,))
    np.testing.assert_array_equal(backend.numpy(value), hard(name, y))


@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_own_densities_are_finite_where_the_value_underflows(
    backend: Backend, name: str, seed: int
) -> None:
    """In float32 at temperature 0.01, densities are right though many values round to a corner.

    Each density is that of the log value of the same seed in float32, to 1e-4.
    """
    d = make(backend, name, 0.01, "float32")
    value = backend.draw(d, seed, (500,))
    log_d = make(backend, SPACE[letter(name)], 0.01, "float32")
    y = backend.numpy(backend.draw(log_d, seed, (500,)))
    logits = LOGITS.astype("float32").astype("float64")
    numbers = backend.numpy(value)
    assert ((numbers == 0) | (numbers == 1)).mean() > 0.4
    expected = density(name, y, float(np.float32(0.01)), logits)
    np.testing.assert_allclose(backend.numpy(d.log_prob(value)), expected, 1e-4)


@pytest.mark.share("backend")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [*STRAIGHT_THROUGH, *VIEWS])
def test_in_half_precision_the_sample_behind_is_in_single(
    backend: Backend, name: str, dtype: str, seed: int
) -> None:
    """The density is computed in float32, from the float32 log value: the error is below 1e-5.

    Half precision alone would have errors of 4e-4. A share of the cases runs each dtype and each
    distribution in each framework.
    """
    d = make(backend, name, TEMPERATURE, dtype)
    value = backend.draw(d, seed, (200,))
    logits = backend.numpy(backend.array(LOGITS, dtype))
    exact = getattr(backend.names, SPACE[letter(name)])(
        backend.array(TEMPERATURE, "float32"), logits=backend.array(logits, "float32")
    )
    y = backend.numpy(backend.draw(exact, seed, (200,)))
    assert str(value.dtype).endswith(dtype)
    actual = backend.numpy(d.log_prob(value))
    np.testing.assert_allclose(actual, density(name, y, TEMPERATURE, logits), 1e-5, 1e-5)


@pytest.mark.parametrize("name", VIEWS)
def test_a_copy_of_a_relaxed_value_is_scored_by_its_numbers(
    backend: Backend, name: str, seed: int
) -> None:
    """At temperature 0.5 a copy's numbers are enough for the density, to 1e-6.

    At 0.01 in float32 many values are rounded, and a copy is refused. Without validation the
    density of such a copy is finite.
    """
    d, value, y = pair(backend, name, seed, shape=(50,))
    actual = backend.numpy(d.log_prob(backend.array(backend.numpy(value))))
    np.testing.assert_allclose(actual, density(name, y, TEMPERATURE), 1e-6, 1e-6)
    cold = make(backend, name, 0.01, "float32")
    again = backend.array(backend.numpy(backend.draw(cold, seed, (500,))), "float32")
    with pytest.raises(ValueError, match=rounded(name)):
        cold.log_prob(again)
    unseen = type(cold)(0.01, logits=cold.logits, validate_args=False)
    assert np.isfinite(backend.numpy(unseen.log_prob(again))).all()


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_a_value_made_elsewhere_is_refused(backend: Backend, name: str) -> None:
    """A one-hot vector or a bit that was not drawn has no relaxed sample, so log_prob raises."""
    d = make(backend, name)
    value = backend.array(hard(name, LOGITS))
    with pytest.raises(ValueError, match=lost(name)):
        d.log_prob(value)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_a_value_of_another_family_is_not_taken_for_ones_own(
    backend: Backend, name: str, seed: int
) -> None:
    """A one-hot distribution refuses a binary value and its logit, and vice versa."""
    other = STRAIGHT_THROUGH[1 - STRAIGHT_THROUGH.index(name)]
    value = backend.draw(make(backend, other), seed)
    with pytest.raises(ValueError, match=lost(name)):
        make(backend, name).log_prob(value)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_another_distribution_scores_the_same_relaxed_sample(
    backend: Backend, name: str, seed: int
) -> None:
    """In an ELBO the model scores the guide's value by the sample behind the value."""
    _, value, y = pair(backend, name, seed, shape=(6,))
    for d in (name, name.replace("StraightThrough", "")):
        actual = backend.numpy(make(backend, d, 0.9).log_prob(value))
        np.testing.assert_allclose(actual, density(name, y, 0.9), 1e-9)


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_the_discrete_counterpart_scores_every_copy(backend: Backend, name: str, seed: int) -> None:
    """`d.discrete` scores a hard value, also a copy, as the error message suggests."""
    d, value, y = pair(backend, name, seed, shape=(6,))
    actual = backend.numpy(d.discrete.log_prob(backend.array(backend.numpy(value))))
    rows = log_softmax(LOGITS, -1)
    binary = np.where(y > 0, np.log(expit(LOGITS)), np.log(expit(-LOGITS)))
    expected = (hard(name, y) * rows).sum(-1) if letter(name) == "O" else binary
    np.testing.assert_allclose(actual, expected, 1e-9)


@pytest.mark.parametrize("name", ["RelaxedOneHotCategoricalStraightThrough", VIEWS[0]])
def test_the_gradient_of_an_own_density_is_that_of_the_whole_path(
    backend: Backend, name: str, seed: int
) -> None:
    """d log p(x) / d logits = -(1 - K x) / t, through the draw and through the density."""
    _, _, y = pair(backend, name, seed)

    def total(logits: Any) -> Any:
        d = getattr(backend.names, name)(backend.array(TEMPERATURE), logits=logits)
        return d.log_prob(backend.draw(d, seed)).sum()

    (grad,) = backend.grad(total, backend.array(LOGITS))
    np.testing.assert_allclose(grad, -(1 - 4 * np.exp(y)) / TEMPERATURE, 1e-8, 1e-8)
