"""Bad input raises an error that says what was got, what was expected, and what to do."""

import numpy as np
import pytest

from cases import DISCRETE, MIXED
from cases import RELAXED as SMOOTH
from harness import Backend, jax
from machinery import EVERY, made

NAN, INF = np.nan, np.inf
RELAXED = SMOOTH + MIXED
relaxed = pytest.mark.parametrize("name", RELAXED)


def is_row(name: str) -> bool:
    """Whether the distribution's events are vectors."""
    return "OneHot" in name


def refuses(text: str, make: object) -> None:
    """The call raises a ValueError with this text, which also says what was expected."""
    with pytest.raises(ValueError, match=f"(?s){text}") as caught:
        make()
    assert "expected" in str(caught.value)


@relaxed
@pytest.mark.parametrize("t", [0, -0.5, NAN, INF])
def test_temperature(backend: Backend, name: str, t: float) -> None:
    """A temperature that is NaN, infinite, zero or negative raises."""
    logits = backend.array(np.zeros(3))
    cls = getattr(backend.names, name)
    text = f"{name} got temperature=.*; expected positive numbers from .*. Give"
    refuses(text, lambda: cls(t, logits=logits))
    refuses(text, lambda: cls(backend.array([1.0, t]), logits=backend.array(np.zeros((2, 3, 2)))))


@relaxed
@pytest.mark.parametrize("t", [1, 1.0, np.float64(0.5), True])
def test_python_temperatures_work(backend: Backend, name: str, t: float) -> None:
    """Temperatures may be Python's or NumPy's floats and integers."""
    distribution = getattr(backend.names, name)(t, logits=backend.array(np.zeros(3), "float32"))
    value = backend.draw(distribution, 0)
    assert np.isfinite(backend.numpy(distribution.log_prob(value))).all()


@relaxed
def test_temperature_of_the_event_shape(backend: Backend, name: str) -> None:
    """A temperature for each category raises, since the event shape has no temperature axis."""
    logits = backend.array(np.zeros((2, 4) if is_row(name) else (2, 3)))
    text = rf"{name} got a temperature of shape \(4,\) for the batch shape \(2.*Drop the temp"
    refuses(text, lambda: getattr(backend.names, name)(backend.array(np.ones(4)), logits=logits))


@pytest.mark.parametrize("name", RELAXED + DISCRETE)
def test_probs_and_logits(backend: Backend, name: str) -> None:
    """Both or neither of probs and logits raise, and so do invalid numbers in them."""
    cls, rows = getattr(backend.names, name), is_row(name)
    t = (0.5,) if name in RELAXED else ()

    def distribution(**parameters: object) -> object:
        arrays = {key: backend.array(value) for key, value in parameters.items()}
        return lambda: cls(*t, **arrays)

    refuses(f"{name} got neither probs nor logits; .* Pass one", distribution())
    refuses(f"{name} got both probs and logits", distribution(probs=[0.5, 0.5], logits=[0.0, 0.0]))
    refuses(f"{name} got logits with NaN, ", distribution(logits=[0.0, NAN]))
    refuses(
        f"{name} got logits with NaN, .*overflow", distribution(logits=[[0.0, 0.0], [INF, 0.0]])
    )
    refuses(f"{name} got probs that are", distribution(probs=[-0.1, 1.1]))
    refuses(f"{name} got probs that are .*Pass unbounded numbers", distribution(probs=[NAN, 0.5]))
    if rows:
        refuses(f"{name} got probs .* a row of zeros", distribution(probs=[[0.5, 0.5], [0.0, 0.0]]))
        refuses(f"{name} got logits .* row of only -inf", distribution(logits=[-INF, -INF]))
        refuses(
            rf"{name} got logits of shape \(3, 0\); .* at least",
            distribution(logits=np.zeros((3, 0))),
        )
        refuses(rf"{name} got probs of shape \(\);", distribution(probs=0.5))
    else:
        refuses(f"{name} got probs that are outside", distribution(probs=1.5))


@pytest.mark.parametrize(
    ("name", "bad", "text"),
    [
        ("ExpRelaxedOneHotCategorical", [0.0, 0.0], "expected logs of points of the simplex. Ap"),
        ("ExpRelaxedOneHotCategorical", [NAN, 0.0], "expected logs of points of the simplex. Ap"),
        ("RelaxedOneHotCategorical", [0.5, 0.6], "expected points of the simplex. Apply softmax"),
        ("RelaxedOneHotCategorical", [-0.1, 1.1], "expected points of the simplex"),
        ("RelaxedOneHotCategorical", [NAN, 1.0], "expected points of the simplex"),
        ("LogitRelaxedBernoulli", [NAN, 0.0], "expected real numbers"),
        ("RelaxedBernoulli", [1.5, 0.0], "expected numbers from 0 to 1. Apply sigmoid"),
        ("RelaxedBernoulli", [NAN, 0.0], "expected numbers from 0 to 1"),
        ("OneHotCategorical", [0.5, 0.5], "expected one-hot vectors. A soft value is scored"),
        ("OneHotCategorical", [1.0, 1.0], "expected one-hot vectors"),
        ("OneHotCategorical", [NAN, 1.0], "expected one-hot vectors"),
        ("Bernoulli", [0.5, 0.0], "expected zeros and ones. A soft value"),
        ("Bernoulli", [2.0, 0.0], "expected zeros and ones"),
    ],
)
def test_values_off_the_support(backend: Backend, name: str, bad: list, text: str) -> None:
    """Values outside the support raise with validation, which is on by default."""
    t = (0.5,) if name in RELAXED else ()
    distribution = getattr(backend.names, name)(*t, logits=backend.array([0.0, 0.0]))
    refuses(f"{name}.log_prob got .*{text}", lambda: distribution.log_prob(backend.array(bad)))


@pytest.mark.parametrize("name", RELAXED + DISCRETE)
def test_values_of_a_wrong_shape(backend: Backend, name: str) -> None:
    """A value raises if its event shape differs or its batch shape doesn't broadcast."""
    t = (0.5,) if name in RELAXED else ()
    distribution = getattr(backend.names, name)(*t, logits=backend.array(np.zeros((3, 4))))
    text = rf"{name}.log_prob got a value of shape \(2, 5\); .* Check the sample's dim"
    refuses(text, lambda: distribution.log_prob(backend.array(np.zeros((2, 5)))))


@pytest.mark.parametrize("name", DISCRETE)
def test_estimators(backend: Backend, name: str) -> None:
    """A bad temperature of an estimator raises, and so does rsample without an estimator."""
    names, logits = backend.names, backend.array(np.zeros((2, 3)))
    cls = getattr(names, name)
    refuses("GumbelSoftmax got temperature=-1; expected", lambda: names.GumbelSoftmax(-1))
    negative = names.GumbelSoftmax(backend.array([0.5, -1.0, 0.5]))
    refuses(f"{name} got temperature=", lambda: cls(logits=logits, estimator=negative))
    wide = names.GumbelSoftmax(backend.array(np.ones((5, 1, 1, 1))))
    refuses(f"{name} got a temperature of shape", lambda: cls(logits=logits, estimator=wide))
    arguments = () if backend.framework == "pyro" else (None,)
    with pytest.raises(NotImplementedError, match=f"{name} has no rsample without an estimator"):
        cls(logits=logits).rsample(*arguments)


@pytest.mark.parametrize("bad", [5, None, 2.5])
@pytest.mark.parametrize("name", EVERY)
def test_a_number_is_not_a_shape(backend: Backend, name: str, bad: object) -> None:
    """A number, or None, as the shape of draws or of an expansion raises."""
    d, key = made(backend, name), ()
    if backend.framework == "numpyro":
        key = (jax.random.key(0),)
    draw = d.rsample if d.has_rsample else d.sample
    text = f"got {bad} as a shape; expected a tuple of whole numbers, .* Write a comma"
    refuses(f"{d._name} {text}", lambda: draw(*key, bad))
    refuses(f"{d._name} {text}", lambda: d.sample(*key, bad))
    refuses(f"{d._name}.expand {text}", lambda: d.expand(bad))


def test_validation_can_be_switched_off(backend: Backend) -> None:
    """With validate_args=False values are not checked, as in the framework's distributions."""
    cls = backend.names.OneHotCategorical
    distribution = cls(logits=backend.array([0.0, 0.0]), validate_args=False)
    assert np.isfinite(backend.numpy(distribution.log_prob(backend.array([0.5, 0.5]))))
