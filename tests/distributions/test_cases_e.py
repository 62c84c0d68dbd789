"""All distributions under export, strict dtype promotion, bad random keys, and fake tensors."""

import functools
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cases import DISCRETE, MIXED, RELAXED
from harness import Jax, Torch

CATEGORIES = 3
Make = Callable[..., Any]  # makes a distribution from logits and, if it has one, a temperature
ESTIMATORS = [
    "StraightThrough",
    "GumbelSoftmax",
    "Soft",
    "GumbelRao",
    "ReinMax",
    "ReinMaxRao",
    "GappedStraightThrough",
    "DecoupledGumbelSoftmax",
    "Own",
]


def estimated(distribution: Any, chosen: Any, x: Any, t: float = 0.5) -> Any:
    """The discrete distribution of logits x with an estimator."""
    return distribution(logits=x, estimator=chosen)


def scored(distribution: Any, x: Any, value: Any) -> Any:
    """The log density at logits x."""
    return distribution(0.5, logits=x).log_prob(value)


def estimator(names: ModuleType, name: str) -> Any:
    """An estimator by its name."""
    more = {
        "StraightThrough": (),
        "GumbelRao": (0.5, 3),
        "ReinMax": (),
        "ReinMaxRao": (0.7, 3),
        "DecoupledGumbelSoftmax": (0.3, 1.0),
    }
    if name == "Soft":
        return names.GumbelSoftmax(0.5, hard=False)
    if name == "Own":
        return lambda logits, hard, noise: names.straight_through(hard, logits + noise)
    return getattr(names, name)(*more.get(name, (0.5,)))


def distributions(names: ModuleType) -> Iterator[tuple[str, Make, tuple[int, ...]]]:
    """Each distribution's name, how it is made, and the event shape of its logits."""
    for name in RELAXED + MIXED:
        rows = (CATEGORIES,) if "OneHot" in name else ()
        yield name, lambda x, t=0.5, name=name: getattr(names, name)(t, logits=x), rows
    for name in DISCRETE:
        rows = (CATEGORIES,) if "OneHot" in name else ()
        distribution = getattr(names, name)
        yield name, lambda x, t=0.5, distribution=distribution: distribution(logits=x), rows
        for entry in ESTIMATORS:
            chosen = estimator(names, entry)
            yield f"{name}, {entry}", functools.partial(estimated, distribution, chosen), rows
    rows, square = (CATEGORIES,), (CATEGORIES, CATEGORIES)
    yield "Subset", lambda x, t=0.5: names.Subset(2, logits=x), rows
    yield "Permutation", lambda x, t=0.5: names.Permutation(x), square
    for hard in (False, True):
        label = ", hard" if hard else ""
        subset = lambda x, t=0.5, hard=hard: names.RelaxedSubset(t, 2, logits=x, hard=hard)  # noqa: E731
        yield f"RelaxedSubset{label}", subset, rows
        matrix = lambda x, t=0.5, hard=hard: names.RelaxedPermutation(t, x, 3, hard)  # noqa: E731
        yield f"RelaxedPermutation{label}", matrix, square


def in_turn(name: str) -> bool:
    """Whether a share runs an entry: an estimator has one discrete distribution in the share."""
    distribution, _, entry = name.partition(", ")
    return entry not in ESTIMATORS or ESTIMATORS.index(entry) % 2 == DISCRETE.index(distribution)


def matches(name: str) -> bool:
    """Whether a draw solves an assignment problem, which SciPy does in a callback."""
    return name in ("Permutation", "RelaxedPermutation, hard")


def logits(event: tuple[int, ...], batch: int = 2) -> np.ndarray:
    """Logits of a batch, in single precision."""
    return np.random.default_rng(0).normal(size=(batch, *event)).astype(np.float32)


def pieces(backend: Jax, make: Make) -> dict[str, Callable[..., Any]]:
    """The methods and attributes of a distribution, as functions of logits and a key."""
    import jax.numpy as jnp

    def scored(x: Any, key: Any) -> Any:
        distribution = make(x)
        return distribution.log_prob(*distribution.sample_with_intermediates(key))

    def attribute(name: str) -> Callable[..., Any]:
        return lambda x, key: getattr(make(x), name)

    return {
        "density": scored,
        "density of a copy": lambda x, key: make(x).log_prob(make(x).sample(key) + 0),
        "entropy": lambda x, key: make(x).entropy(),
        "kl": lambda x, key: backend.divergence(make(x), make(jnp.tanh(x))),
        "kl at two temperatures": lambda x, key: backend.divergence(make(x), make(x + 1, 0.7)),
        "cdf": lambda x, key: make(x).cdf(make(x).sample(key) + 0),
        "icdf": lambda x, key: make(x).icdf(0 * x + 0.3),
        **{name: attribute(name) for name in ("mean", "variance", "mode", "probs")},
    }


def provided(pieces: dict[str, Callable[..., Any]], x: Any, key: Any) -> dict[str, Any]:
    """The pieces that the distribution has; the errors of missing ones have other tests."""
    import jax

    found = {}
    for name, piece in pieces.items():
        try:
            found[name] = jax.eval_shape(piece, x, key)
        except (NotImplementedError, ValueError, AttributeError):
            continue
    return found


@pytest.fixture
def jax_backend() -> Jax:
    """The JAX backend, in single precision."""
    pytest.importorskip("numpyro")
    return Jax()


def key(style: str = "new") -> Any:
    """One random key."""
    import jax

    return jax.random.key(0) if style == "new" else jax.random.PRNGKey(0)


# Tests of symbolic batches in jax.export.


def exported(function: Callable[..., Any], x: np.ndarray) -> Any:
    """An exported program of a key and of logits whose batch size is symbolic."""
    import jax
    from jax import export  # JAX 0.4.35 does not import it by itself

    (b,) = export.symbolic_shape("b")
    raw = key("old")
    return export.export(jax.jit(function))(
        jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype),
        jax.ShapeDtypeStruct(raw.shape, raw.dtype),
    )


def same_at(sizes: tuple[int, ...], function: Callable[..., Any], event: tuple[int, ...]) -> None:
    """Check that an exported program gives the function's result at each batch size."""
    import jax

    program = exported(function, logits(event))
    for size in sizes:
        x = logits(event, size)
        right, got = jax.jit(function)(x, key("old")), program.call(x, key("old"))
        for one, other in zip(jax.tree.leaves(right), jax.tree.leaves(got), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_e2_draws_export_with_a_symbolic_batch(jax_backend: Jax, whole: bool) -> None:
    """Exported draws equal the function's draws, for few numbers and for many.

    A share of the cases runs each estimator with one of the two discrete distributions.
    """
    shapes: dict[tuple[int, ...], list[Make]] = {}
    for name, make, event in distributions(jax_backend.names):
        if not matches(name) and (whole or in_turn(name)):
            shapes.setdefault(event, []).append(make)
    for event, makes in shapes.items():
        same_at((40,), lambda x, k, makes=makes: [make(x).sample(k) for make in makes], event)
    same_at((3,), lambda x, k: makes[0](x).sample(k), event)  # few numbers


def test_e2_another_noise_fails(jax_backend: Jax, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails if a symbolic batch draws other random bits."""
    from relaxed_dists_jax import noise as _noise

    def draw(x: Any, key: Any) -> Any:
        return jax_backend.names.RelaxedBernoulli(0.5, logits=x).sample(key)

    words = _noise._threefry

    def other(key: Any, number: Any) -> Any:
        return words(key, number) ^ np.uint32(0 if isinstance(number, int) else 2**31)

    same_at((40,), draw, ())
    monkeypatch.setattr(_noise, "_threefry", other)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        same_at((41,), lambda x, key: draw(x, key), ())


def test_e2_a_matching_says_that_it_has_no_symbolic_batch(jax_backend: Jax) -> None:
    """Export of a hard permutation raises: its solver is a callback, which can't be serialised."""
    for name, make, event in distributions(jax_backend.names):
        if matches(name):
            with pytest.raises(NotImplementedError, match="Export RelaxedPermutation with hard=F"):
                exported(lambda x, k, make=make: make(x).sample(k), logits(event))


SEVERAL = [
    "RelaxedOneHotCategorical",
    "RelaxedBernoulli",
    "HardConcrete",
    "Subset",
]


@pytest.mark.parametrize("name", SEVERAL)
def test_e2_densities_moments_and_gradients_export_with_a_symbolic_batch(
    jax_backend: Jax, name: str
) -> None:
    """An exported program of all that a distribution has gives the same numbers and gradients."""
    import jax
    import jax.numpy as jnp

    _, make, event = next(x for x in distributions(jax_backend.names) if x[0] == name)
    all_pieces = pieces(jax_backend, make)
    has = [all_pieces[x] for x in provided(all_pieces, logits(event), key())]

    def slope(x: Any, key: Any) -> Any:
        def total(x: Any) -> Any:
            distribution = make(x)
            value, more = distribution.sample_with_intermediates(key)
            return (value * jnp.arange(value.shape[-1])).sum() + distribution.log_prob(
                value, more
            ).sum()

        return jax.grad(total)(x)

    same_at((5,), lambda x, key: [slope(x, key), *(piece(x, key) for piece in has)], event)


# Tests of JAX's strict dtype promotion.


def test_e3_everything_is_traced_under_strict_promotion(jax_backend: Jax, whole: bool) -> None:
    """No operation promotes dtypes implicitly; the setting can only raise, not change numbers.

    A share of the cases runs the methods that no estimator changes only without an estimator.
    """
    import jax
    import jax.numpy as jnp

    for name, make, event in distributions(jax_backend.names):
        if name.startswith("Bernoulli,"):
            continue  # the same code as the one-hot ones
        all_pieces = pieces(jax_backend, make)
        if "," in name and not whole:
            all_pieces = {piece: all_pieces[piece] for piece in ("density", "mean", "variance")}
        for dtype in ("float32", "bfloat16") if name in RELAXED[:2] + MIXED else ("float32",):
            x = jnp.asarray(logits(event), dtype)
            right = provided(all_pieces, x, key())

            def slope(x: Any, make: Make = make, scored: bool = "density" in right) -> Any:
                distribution = make(x)
                value, more = distribution.sample_with_intermediates(key())
                density = distribution.log_prob(value, more) if scored else 0.0 * value
                return value.astype("float32").sum() + density.sum()

            with jax.numpy_dtype_promotion("strict"):
                make(x).sample(key(), (2,))  # eager: validation sees numbers
                jax.eval_shape(jax.grad(slope), x)
                for piece, shape in right.items():
                    assert jax.eval_shape(all_pieces[piece], x, key()) == shape, (name, piece)


def test_e3_the_numbers_are_those_without_the_setting(jax_backend: Jax) -> None:
    """Entropy, mean and KL, whose quadratures mix integers and floats, keep their numbers."""
    import jax
    import jax.numpy as jnp

    distribution = jax_backend.names.RelaxedBernoulli
    p, q = (distribution(t, logits=jnp.arange(2.0)) for t in (0.5, 0.7))

    def parts() -> list[Any]:
        return [p.entropy(), p.mean, jax_backend.divergence(p, q)]

    right = jax.jit(lambda: parts())()
    with jax.numpy_dtype_promotion("strict"):
        found = jax.jit(lambda: parts())()
    for one, other in zip(found, right, strict=True):
        np.testing.assert_array_equal(one, other)


# Tests of random keys.


def keys() -> dict[str, Any]:
    """Values that are not a single random key, by the error's words for each."""
    import jax
    import jax.numpy as jnp

    return {
        "dtype key<fry> and shape (3,)": jax.random.split(key(), 3),
        "dtype uint32 and shape (3, 2)": jax.random.split(key("old"), 3),
        "dtype uint32 and shape (4,)": jax.random.PRNGKey(0, impl="rbg"),
        "dtype int32 and shape (2,)": jnp.zeros(2, "int32"),
        "got None as": None,
        "got 0 as": 0,
        "got 'seed' as": "seed",
    }


def test_e4_whatever_is_not_one_key_is_refused(jax_backend: Jax) -> None:
    """All draws raise for a wrong key, for few numbers and for many, and so does a sample site."""
    import jax
    import numpyro

    texts = []
    for name, make, event in distributions(jax_backend.names):
        for words, wrong in keys().items():
            for size in (1, 5, 40) if name in RELAXED else (1,):
                distribution = make(logits(event, size))
                with pytest.raises(ValueError, match="expected one key, such as") as error:
                    distribution.sample(wrong)
                assert words in str(error.value)
                texts.append(str(error.value))
        with pytest.raises(ValueError, match="Draw with several keys by"):
            numpyro.sample("z", distribution, rng_key=jax.random.split(key(), 3))
        with pytest.raises(ValueError, match="run a model inside of"):
            numpyro.sample("z", distribution)
    assert texts[0] == (
        "A draw got an array of dtype key<fry> and shape (3,) as its random key; expected one key, "
        "such as jax.random.key(0). Draw with several keys by jax.vmap(distribution.sample)(keys), "
        "with one key several times by sample_shape, and run a model inside of "
        "numpyro.handlers.seed."
    )


def test_e4_also_by_functions_and_traced(jax_backend: Jax) -> None:
    """Functions and compiled draws raise for a wrong key too, since its shape is known."""
    import jax

    wrong = jax.random.split(key(), 3)
    for draw in (
        lambda k: jax_backend.names.gumbel_softmax(logits((3,)), 0.5, key=k),
        jax_backend.names.RelaxedBernoulli(0.5, logits=logits(())).sample,
    ):
        with pytest.raises(ValueError, match="expected one key"):
            jax.jit(draw)(wrong)
        with pytest.raises(ValueError, match="expected one key"):
            jax.vmap(draw)(wrong.reshape(3, 1))


def test_e4_a_key_of_each_style_and_kind_draws(jax_backend: Jax) -> None:
    """Old-style keys draw the same as new ones, and vmap over keys draws with each key."""
    import jax

    distribution = jax_backend.names.RelaxedOneHotCategorical(0.5, logits=logits((3,)))
    right = distribution.sample(key())
    for one in (key("old"), np.asarray(key("old"))):
        np.testing.assert_array_equal(distribution.sample(one), right)
        np.testing.assert_allclose(jax.jit(distribution.sample)(one), right, rtol=1e-6)
    several = jax.random.split(key(), 3)
    each = [distribution.sample(one) for one in several]
    for batch in (several, jax.random.key_data(several)):
        np.testing.assert_allclose(jax.vmap(distribution.sample)(batch), each, rtol=1e-6)
    for impl in ("rbg", "unsafe_rbg"):
        new = jax.random.key(0, impl=impl)
        with jax.default_prng_impl(impl):
            old = jax.random.PRNGKey(0)
            np.testing.assert_array_equal(distribution.sample(old), distribution.sample(new))
        assert abs(distribution.sample(new) - right).max() > 1e-3


# Tests of torch.export.


@pytest.fixture
def torch_backend() -> Torch:
    """The torch backend, if it is installed."""
    pytest.importorskip("pyro")
    return Torch()


def module(function: Callable[..., Any]) -> Any:
    """A layer that calls a function."""
    import torch

    class Layer(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    return Layer().eval()


def program(function: Callable[..., Any], event: tuple[int, ...], auto: bool = False) -> Any:
    """An exported program with a dynamic batch size."""
    import torch

    size = torch.export.Dim.AUTO if auto else torch.export.Dim("batch")
    x, shapes = torch.as_tensor(logits(event, 4)), {"x": {0: size}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.6 warns of the constants that it makes itself
        found = torch.export.export(module(function), (x,), dynamic_shapes=shapes, strict=False)
        return found.module()


def drawn_anew(one: Any, other: Any) -> bool:
    """Whether two draws of the same logits differ, which they don't if noise is a constant."""
    return bool((one != other).any())


def test_e1_draws_export_with_a_free_batch(torch_backend: Torch, whole: bool) -> None:
    """Every exported draw works at other batch sizes, and each call draws new noise.

    A share of the cases runs each estimator with one of the two discrete distributions.
    """
    import torch

    shapes: dict[tuple[int, ...], list[Make]] = {}
    for name, make, event in distributions(torch_backend.names):
        if whole or in_turn(name):
            shapes.setdefault(event, []).append(make)
    for event, makes in shapes.items():
        # Dim raises if the size is fixed; Dim.AUTO would fix it silently.
        draws = program(lambda x, makes=makes: [make(x).sample() for make in makes], event)
        for size in (1, 30):
            x = torch.as_tensor(logits(event, size))
            for make, one, other in zip(makes, draws(x), draws(x), strict=True):
                assert one.shape == make(x).sample().shape
                assert drawn_anew(one, other) or size == 1
    auto = program(lambda x: makes[0](x).sample(), event, auto=True)
    assert auto(torch.as_tensor(logits(event, 30))).shape == (30, *event)


# Torch takes 7 to 9 seconds to export an integral.
@pytest.mark.turns(lambda name, what, **_: (name, what) == ("RelaxedBernoulli", "mean"))
@pytest.mark.parametrize("name", ["RelaxedOneHotCategorical", "RelaxedBernoulli", "HardConcrete"])
@pytest.mark.parametrize("what", ["mean", "variance", "entropy", "kl"])
def test_e1_integrals_export_with_a_free_batch(torch_backend: Torch, name: str, what: str) -> None:
    """An exported moment, entropy or divergence is that of eager code at other batch sizes."""
    import torch

    distribution = getattr(torch_backend.names, name)
    event = (CATEGORIES,) if "OneHot" in name else ()

    def integral(x: Any) -> Any:
        p = distribution(0.5, logits=x)
        if what == "kl":
            return torch_backend.divergence(p, distribution(0.7, logits=x + 1))
        return p.entropy() if what == "entropy" else getattr(p, what)

    exported = program(integral, event)
    for size in (1, 30):
        x = torch.as_tensor(logits(event, size))
        torch.testing.assert_close(exported(x), integral(x), rtol=1e-4, atol=1e-5)


def test_e1_noise_that_is_a_constant_is_seen(torch_backend: Torch) -> None:
    """The check fails for a program that has the example's noise as a constant."""
    import torch

    noise = torch.as_tensor(np.random.default_rng(0).logistic(size=4).astype("float32"))
    draw = program(lambda x: ((x + noise.mean()) / 0.5).sigmoid(), ())
    x = torch.as_tensor(logits((), 30))
    assert not drawn_anew(draw(x), draw(x))


def test_e1_exported_draws_have_the_right_distribution(torch_backend: Torch, seed: int) -> None:
    """The frequencies and the cdfs of exported draws are right, for 40,000 rows.

    At 5 standard errors a false alarm comes once in 10^5 runs. The test sees errors of 0.0125 in a
    frequency and of 0.0072 in the mean of a cdf, which is 1 / 2.
    """
    import torch

    names, number = torch_backend.names, 40_000
    row = torch.tensor([1.0, -0.5, 0.2])
    x = row.expand(number, 3).clone()
    makes = [
        lambda x: names.OneHotCategorical(logits=x),
        lambda x: names.OneHotCategorical(logits=x, estimator=names.GumbelSoftmax(0.5)),
        lambda x: names.RelaxedOneHotCategoricalStraightThrough(0.5, logits=x),
        lambda x: names.RelaxedOneHotCategorical(0.5, logits=x),
        lambda x: names.Bernoulli(logits=x),
        lambda x: names.RelaxedBernoulliStraightThrough(0.5, logits=x),
    ]
    relaxed = names.LogitRelaxedBernoulli(0.5, logits=row)
    draws = program(
        lambda x: [*(m(x).sample() for m in makes), names.LogitRelaxedBernoulli(0.5, logits=x)()],
        (3,),
    )
    torch.manual_seed(seed)
    *values, logit = draws(x)
    for i, value in enumerate(values):
        p = row.softmax(-1) if i < 4 else row.sigmoid()
        hard = torch.nn.functional.one_hot(value.argmax(-1), 3) if i == 3 else value
        error = hard.double().mean(0) - p
        assert (error.abs() < 5 * (p * (1 - p) / number).sqrt()).all(), i
    uniform = torch.sigmoid(0.5 * logit.double() - relaxed.logits)  # the cdf, by its formula
    assert ((uniform.mean(0) - 0.5).abs() < 5 * (1 / 12 / number) ** 0.5).all()
    assert (((uniform - 0.5) ** 2).mean(0) - 1 / 12).abs().max() < 5 * (1 / 180 / number) ** 0.5


def test_e1_a_draw_and_its_density_in_one_program(torch_backend: Torch) -> None:
    """A program keeps the relaxed sample behind a value, so low temperatures score exactly."""
    import torch

    names = torch_backend.names

    def both(x: Any) -> list[Any]:
        out = []
        for name in RELAXED + MIXED:
            distribution = getattr(names, name)(0.05, logits=x)
            value = distribution.rsample()
            out += [value, distribution.log_prob(value)]
        return out

    x = torch.as_tensor(logits((CATEGORIES,), 2000))
    scored = program(both, (CATEGORIES,))(x)
    for i, name in enumerate(RELAXED + MIXED):
        value, density = scored[2 * i : 2 * i + 2]
        assert density.isfinite().all(), name
        if name in ("ExpRelaxedOneHotCategorical", "LogitRelaxedBernoulli"):
            right = getattr(names, name)(0.05, logits=x).log_prob(value)
            torch.testing.assert_close(density, right, rtol=1e-4, atol=1e-3)
        else:  # an independent draw has the same mean
            other = getattr(names, name)(0.05, logits=x)
            again = other.log_prob(other.rsample())
            spread = (density.var() + again.var()).sqrt() / density.numel() ** 0.5
            assert (density.mean() - again.mean()).abs() < 5 * spread, name


@pytest.mark.filterwarnings("ignore")  # the exporter's own warnings
def test_e1_draws_go_to_onnx(torch_backend: Torch, whole: bool) -> None:
    """The default exporter, with a dynamic batch, makes programs that ONNX's reference runs.

    The first four have noise of both kinds and a hard subset; --whole exports all seven.
    """
    pytest.importorskip("onnxscript")
    import torch
    from onnx.reference import ReferenceEvaluator

    names = torch_backend.names
    makes = [
        lambda x: names.gumbel_softmax(x, 0.5, hard=True),
        lambda x: names.RelaxedBernoulli(0.5, logits=x).rsample(),
        lambda x: names.Bernoulli(logits=x).sample(),
        lambda x: names.RelaxedSubset(0.5, 2, logits=x, hard=True).rsample(),
        lambda x: names.OneHotCategorical(logits=x, estimator=names.ReinMaxRao(0.7, 2)).rsample(),
        lambda x: names.RelaxedOneHotCategoricalStraightThrough(0.5, logits=x).rsample(),
        lambda x: names.HardConcrete(0.5, logits=x).rsample(),
    ][: None if whole else 4]
    found = torch.onnx.export(
        module(lambda x: tuple(make(x) for make in makes)),
        (torch.as_tensor(logits((3,), 4)),),
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    run = ReferenceEvaluator(found.model_proto)
    x = logits((3,), 50)
    (name,) = run.input_names
    one, other = run.run(None, {name: x}), run.run(None, {name: x})
    for value, again in zip(one, other, strict=True):
        assert value.shape == (50, 3)
        assert np.isfinite(value).all()
        assert drawn_anew(value, again)


# Tests of torch's meta and fake tensors, which have no numbers.


def asked(make: Make) -> dict[str, Callable[..., Any]]:
    """A draw, its density, their gradient, and other results, as functions of logits."""
    import torch
    from torch.distributions import kl_divergence

    def slope(x: Any) -> Any:
        x = x.detach().clone().requires_grad_()
        distribution = make(x)
        value = distribution.rsample()
        return torch.autograd.grad(value.sum() + distribution.log_prob(value).sum(), x)[0]

    return {
        "draw": lambda x: make(x).sample((2,)),
        "density": lambda x: (lambda distribution: distribution.log_prob(distribution()))(make(x)),
        "density of a copy": lambda x: make(x).log_prob(make(x).sample() + 0),
        "gradient": slope,
        "entropy": lambda x: make(x).entropy(),
        "kl": lambda x: kl_divergence(make(x), make(x.tanh())),
        "mode": lambda x: make(x).mode,
        "expanded": lambda x: make(x).expand((3, *make(x).batch_shape)).to_event(1)(),
    }


def test_e5_shapes_are_those_with_numbers(torch_backend: Torch, whole: bool) -> None:
    """Meta and fake tensors give the same shapes: numbers that don't exist aren't validated.

    A share of the cases runs only the draw and the gradient with an estimator.
    """
    import pyro
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    for name, make, event in distributions(torch_backend.names):
        if name.startswith("Bernoulli,"):
            continue  # the same code as the one-hot ones
        x = torch.as_tensor(logits(event))
        for what, ask in asked(make).items():
            if "," in name and not whole and what not in ("draw", "gradient"):
                continue
            try:
                right = ask(x)
            except (NotImplementedError, ValueError):
                continue  # not defined: other tests check the error
            found = [ask(x.to("meta"))]
            assert found[0].is_meta
            with FakeTensorMode() as mode:
                found.append(ask(mode.from_tensor(x)))
            if what in ("draw", "density") and name in RELAXED + MIXED + DISCRETE:
                with pyro.validation_enabled(False):
                    found.append(ask(x.to("meta")))
                    with FakeTensorMode():
                        found.append(ask(torch.zeros(x.shape)))
            for got in found:
                assert (got.shape, got.dtype) == (right.shape, right.dtype), (name, what)


def test_e5_the_device_meta_as_a_context(torch_backend: Torch) -> None:
    """Under torch.device("meta") Python numbers become meta tensors; other tensors stay real."""
    import torch

    names = torch_backend.names
    with torch.device("meta"):
        distribution = names.RelaxedOneHotCategorical([0.5, 1.0], logits=[[0.0, 1.0, 2.0]] * 2)
        assert distribution.rsample().is_meta
        assert distribution.log_prob(distribution.rsample()).shape == (2,)
    for name, make, event in distributions(names):
        x = torch.as_tensor(logits(event))
        with torch.device("meta"):
            value = make(x).sample()
        assert value.device.type == "cpu", name


@pytest.mark.parametrize("mode", ["fake", "symbolic", "real"])
def test_e5_make_fx_traces_draws_and_densities(torch_backend: Torch, mode: str) -> None:
    """A traced program draws new noise in each call, and a symbolic one works at other sizes."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    sizes = (3, 7) if mode == "symbolic" else (3,)
    shapes: dict[tuple[int, ...], list[Make]] = {}
    for name, make, event in distributions(torch_backend.names):
        if name in [*RELAXED, *MIXED, "Bernoulli", "OneHotCategorical, GumbelRao", "Subset"]:
            shapes.setdefault(event, []).append(make)
    for event, makes in shapes.items():

        def drawn(x: Any, makes: list[Make]) -> list[Any]:
            pairs = [(distribution, distribution()) for distribution in (make(x) for make in makes)]
            return [value for _, value in pairs] + [
                distribution.log_prob(value) for distribution, value in pairs
            ]

        both: Any = functools.partial(drawn, makes=makes)
        traced = make_fx(both, tracing_mode=mode)(torch.as_tensor(logits(event, 3)))
        for size in sizes:
            x = torch.as_tensor(logits(event, size))
            right, got, again = both(x), traced(x), traced(x)
            assert [y.shape for y in got] == [y.shape for y in right]
            assert any(drawn_anew(y, z) for y, z in zip(got, again, strict=True))
            assert all(y.isfinite().all() for y in got[len(makes) :])


def test_e5_aot_function_and_functionalize_keep_densities(torch_backend: Torch) -> None:
    """Densities' gradients under these transformations equal those of eager code."""
    import torch
    from functorch.compile import aot_function, make_boxed_func

    x = torch.as_tensor(logits((CATEGORIES,))).requires_grad_()
    for name in RELAXED[:4]:
        distribution = getattr(torch_backend.names, name)
        value = distribution(0.5, logits=x.detach()).sample().clone()
        score = functools.partial(scored, distribution)
        (right,) = torch.autograd.grad(score(x, value).sum(), x)
        compiled = aot_function(score, fw_compiler=lambda graph, _: make_boxed_func(graph))
        (got,) = torch.autograd.grad(compiled(x, value).sum(), x)
        torch.testing.assert_close(got, right)
        with torch.no_grad():
            functional = torch.func.functionalize(score)(x, value)
        torch.testing.assert_close(functional, score(x, value))
