"""Small Pyro programs, one for each way in which a module or parameter comes into a model.

    python resuming.py FOLDER

loads the checkpoint of each program in a new process, trains further, and prints what
:func:`onwards` returns.
"""

# ruff: noqa: E402 - the script checks first whether the framework is installed

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pyro = pytest.importorskip("pyro")
torch = pytest.importorskip("torch")

from pyro import distributions as dist
from pyro import infer, poutine
from pyro.infer import autoguide
from pyro.nn import PyroModule, PyroParam, PyroSample, pyro_method
from pyro.util import get_rng_state, set_rng_state
from torch import nn

from relaxed_dists.pyro import (
    RELAX_ELBO,
    AnnealedSVI,
    AutoRelaxed,
    GumbelSoftmax,
    OneHotCategorical,
)
from relaxed_dists.schedules import linear

X = torch.tensor([[-2.0], [0.1], [1.9], [0.4]])
MEANS = torch.tensor([-2.0, 0.0, 2.0])
Program = Callable[[], tuple[Any, Any]]
PROGRAMS: dict[str, Program] = {}


class Positive(dist.constraints.Constraint):  # type: ignore[misc]
    """A constraint that a user defines."""

    event_dim = 0


def program(make: Program) -> Program:
    """Add a function that makes a model and a guide to PROGRAMS."""
    PROGRAMS[make.__name__] = make
    return make


def components(x: Any, scale: Any = 0.5) -> None:
    """A mixture of three components."""
    with pyro.plate("rows", len(x)):
        z = pyro.sample("z", OneHotCategorical(probs=torch.ones(3)))
        pyro.sample("x", dist.Normal(z @ MEANS, scale), obs=x[:, 0])


def codes(logits: Any, temperature: float) -> None:
    """The guide of `components`, with an estimator at the temperature."""
    with pyro.plate("rows", len(logits)):
        d = OneHotCategorical(logits=logits, estimator=GumbelSoftmax(temperature))
        pyro.sample("z", d)


def regression(x: Any) -> None:
    """A model with two global latent sites."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("x", dist.Normal(a + b.sum(), 1.0), obs=x[:, 0])


def amortised(encoder: nn.Module, **how: Any) -> tuple[Any, Any]:
    """`components`, and a guide that registers an encoder by pyro.module."""

    def guide(x: Any, temperature: float) -> None:
        pyro.module("encoder", encoder, **how)
        codes(encoder(x), temperature)

    return components, guide


@program
def module() -> tuple[Any, Any]:
    """A module that the guide registers by pyro.module."""
    return amortised(nn.Linear(1, 3))


@program
def module_updated() -> tuple[Any, Any]:
    """pyro.module with update_module_params, which sets a module's parameters from the store's."""
    return amortised(nn.Sequential(nn.Linear(1, 3), nn.Linear(3, 3)), update_module_params=True)


@program
def modules_of_both() -> tuple[Any, Any]:
    """Several modules, in the model and in the guide, one of them in both."""
    encoder, decoder, shared = nn.Linear(1, 3), nn.Linear(3, 1), nn.Linear(3, 3)

    def model(x: Any) -> None:
        pyro.module("decoder", decoder)
        pyro.module("shared", shared)
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", OneHotCategorical(probs=torch.ones(3)))
            pyro.sample("x", dist.Normal(decoder(shared(z))[:, 0], 0.5), obs=x[:, 0])

    def guide(x: Any, temperature: float) -> None:
        pyro.module("encoder", encoder)
        pyro.module("shared", shared)
        codes(shared(encoder(x)), temperature)

    return model, guide


@program
def registered_late() -> tuple[Any, Any]:
    """A module that the guide uses before the model registers it."""
    encoder = nn.Linear(1, 3)

    def model(x: Any) -> None:
        pyro.module("encoder", encoder)
        components(x)

    return model, lambda x, temperature: codes(encoder(x), temperature)


@program
def tied() -> tuple[Any, Any]:
    """Two layers that share one weight."""
    encoder = nn.Sequential(nn.Linear(1, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    encoder[2].weight = encoder[1].weight
    return amortised(encoder)


@program
def normalised() -> tuple[Any, Any]:
    """A module with running statistics, which the guide calls in training and evaluation mode."""
    encoder = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3))

    def guide(x: Any, temperature: float) -> None:
        pyro.module("encoder", encoder)
        encoder(x)
        logits = encoder.eval()(x)
        encoder.train()
        codes(logits, temperature)

    return components, guide


@program
def methods() -> tuple[Any, Any]:
    """Model and guide as methods of one module."""

    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(1, 3)
            self.register_buffer("calls", torch.tensor(0.0))

        def model(self, x: Any) -> None:
            components(x, 0.5 + 0.01 * self.calls)

        def guide(self, x: Any, temperature: float) -> None:
            self.calls += 1
            pyro.module("autoencoder", self)
            codes(self.encoder(x), temperature)

    made = Autoencoder()
    return made.model, made.guide


@program
def pyro_linear() -> tuple[Any, Any]:
    """An encoder that is a PyroModule[nn.Linear]."""
    encoder = PyroModule[nn.Linear](1, 3)
    return components, lambda x, temperature: codes(encoder(x), temperature)


@program
def pyro_modules() -> tuple[Any, Any]:
    """Model and guide that are PyroModules, with modules, parameters and constraints inside."""

    class Model(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.scale = PyroParam(torch.ones(1), constraint=dist.constraints.positive)

        @PyroParam(constraint=dist.constraints.simplex)
        def weights(self) -> Any:
            return torch.softmax(torch.randn(3), -1)

        def forward(self, x: Any) -> None:
            with pyro.plate("rows", len(x)):
                z = pyro.sample("z", OneHotCategorical(probs=self.weights))
                pyro.sample("x", dist.Normal(z @ MEANS, self.scale), obs=x[:, 0])

    class Guide(PyroModule):
        def __init__(self) -> None:
            super().__init__("guide")
            self.plain = nn.Linear(1, 3)
            self.pyro = PyroModule[nn.Sequential](PyroModule[nn.Linear](3, 3), nn.Linear(3, 3))
            self.shift = nn.Parameter(torch.zeros(3))

        @pyro_method
        def forward(self, x: Any, temperature: float) -> None:
            codes(self.pyro(self.plain(x)) + self.shift, temperature)

    return Model(), Guide()


@program
def pyro_sample() -> tuple[Any, Any]:
    """A Bayesian layer with an automatic guide."""
    layer = PyroModule[nn.Linear](1, 1)
    layer.weight = PyroSample(dist.Normal(torch.zeros(1, 1), 1.0).to_event(2))

    def model(x: Any) -> None:
        mean = layer(x)[:, 0]
        with pyro.plate("rows", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=torch.zeros(len(x)))

    return model, autoguide.AutoNormal(model)


@program
def parameters() -> tuple[Any, Any]:
    """pyro.param with bounded and nested constraints, and with random initial values."""
    some = dist.constraints

    def model(x: Any) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=some.interval(0.1, 2.0))
        bounded = some.greater_than(torch.tensor([-1.0, 0.0]))
        both = some.independent(bounded, 1)
        low = pyro.param("low", lambda: torch.rand(2), constraint=both)
        components(x, scale + low.sum())

    def guide(x: Any, temperature: float) -> None:
        codes(pyro.param("logits", lambda: torch.randn(4, 3)), temperature)

    return model, guide


@program
def averaged() -> tuple[Any, Any]:
    """A loss that keeps averages in the param store."""

    def guide(x: Any, temperature: float) -> None:
        logits = pyro.param("logits", torch.zeros(4, 3))
        baseline = {"use_decaying_avg_baseline": True, "baseline_beta": 0.5}
        with pyro.plate("rows", len(x)):
            pyro.sample("z", OneHotCategorical(logits=logits), infer={"baseline": baseline})

    return components, guide


@program
def surrogate() -> tuple[Any, Any]:
    """RELAX_ELBO, whose control variate has a module of its own."""

    def guide(x: Any, temperature: float) -> None:
        codes(pyro.param("logits", torch.zeros(4, 3)), temperature)

    return components, guide


@program
def objects() -> tuple[Any, Any]:
    """Modules in a dictionary of an object, in its class and behind its methods; some frozen."""

    class Guide:
        shared = nn.Linear(3, 3)

        def __init__(self) -> None:
            self.modules = {"first": nn.Linear(1, 3), "recurrent": nn.LSTM(3, 3)}
            self.modules["first"].requires_grad_(False).eval()

        def __call__(self, x: Any, temperature: float) -> None:
            codes(self.logits(x), temperature)

        def logits(self, x: Any) -> Any:
            for name, module in self.modules.items():
                pyro.module(name, module)
            return self.shared(self.modules["recurrent"](self.modules["first"](x))[0])

    return components, Guide()


@program
def hidden() -> tuple[Any, Any]:
    """An automatic guide inside of a function."""
    inside = autoguide.AutoNormal(regression)
    return regression, lambda x, temperature: inside(x)


@program
def guide_list() -> tuple[Any, Any]:
    """An AutoGuideList of two automatic guides."""
    guide = autoguide.AutoGuideList(regression)
    guide.append(autoguide.AutoDelta(poutine.block(regression, hide=["b"])))
    guide.append(autoguide.AutoDiagonalNormal(poutine.block(regression, hide=["a"])))
    return regression, guide


@program
def relaxed_and_continuous() -> tuple[Any, Any]:
    """AutoRelaxed with an automatic guide for the continuous site."""

    def model(x: Any) -> None:
        components(x, pyro.sample("scale", dist.LogNormal(0.0, 1.0)))

    return model, AutoRelaxed(model, continuous=autoguide.AutoNormal)


FLOW = "AutoIAFNormal"
for name in ("AutoMultivariateNormal", "AutoLowRankMultivariateNormal", "AutoStructured", FLOW):
    kind = getattr(autoguide, name)
    options = {"hidden_dim": [4]} if name == FLOW else {}
    PROGRAMS[name] = functools.partial(
        lambda kind, options: (regression, kind(regression, **options)), kind, options
    )


def variate(network: nn.Module) -> Callable[..., Any]:
    """A control variate computed by a network whose parameters are trained."""

    def call(values: dict[str, Any], x: Any, **kwargs: Any) -> Any:
        return pyro.module("network", network)(values["z"])[:, 0]

    return call


# Losses other than TraceMeanField_ELBO.
LOSSES: dict[str, Callable[[], Any]] = {
    "averaged": infer.TraceGraph_ELBO,
    "module": infer.JitTrace_ELBO,
    "surrogate": lambda: RELAX_ELBO(variate(nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1)))),
}
# Programs whose loss can't be checked before the SVI's first step: their buffers change with each
# call, or the guide makes a module with buffers in its first call.
LATE = {"normalised", "methods", "surrogate", FLOW}


def make(name: str) -> Any:
    """A new SVI of a program, with an empty param store."""
    pyro.clear_param_store()
    model, guide = PROGRAMS[name]()
    schedule = linear(1.0, 0.5, 10) if takes(guide) else None
    loss = LOSSES.get(name, infer.TraceMeanField_ELBO)()
    return AnnealedSVI(model, guide, pyro.optim.Adam({"lr": 0.05}), loss, schedule)


def takes(guide: Any) -> bool:
    """Whether a guide has a temperature argument."""
    return not isinstance(guide, autoguide.AutoGuide) or isinstance(guide, AutoRelaxed)


def modules(svi: Any) -> list[float]:
    """The sum of each parameter and buffer in the param store."""
    store = sorted(pyro.get_param_store().named_parameters())
    return [float(tensor.detach().double().sum()) for _, tensor in store]


def onwards(svi: Any) -> list[float]:
    """The losses of three more steps, an evaluation, and the result of `modules` at the end."""
    losses = [svi.step(X) for _ in range(3)]
    return [*losses, svi.evaluate(X), *modules(svi)]


def at_once(svi: Any) -> float:
    """The second of two losses that Pyro's Trace_ELBO computes without a call of the SVI."""
    rng, kwargs = get_rng_state(), svi._annealed((X,), {})
    for _ in range(2):
        pyro.set_rng_seed(5)
        loss = infer.Trace_ELBO().loss(svi.model, svi.guide, X, **kwargs)
    set_rng_state(rng)
    return loss


def again(svi: Any, path: Path) -> list[float]:
    """The result of `onwards` for an SVI that has already run and then loads a file."""
    svi.load(path)
    return onwards(svi)


def resumed(folder: Path, name: str) -> dict[str, Any]:
    """A program's results after its checkpoint is loaded over other initial values and noise."""
    pyro.set_rng_seed(99)
    svi = make(name)
    svi.load(folder / name)
    early = None
    if name not in LATE:
        early = at_once(svi)
        svi = make(name)
        svi.load(folder / name)
    svi.save(folder / name)  # modules that are not registered yet must be saved again
    svi = make(name)
    svi.load(folder / name)
    return {"early": early, "onwards": onwards(svi), "again": again(svi, folder / name)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({name: resumed(Path(sys.argv[1]), name) for name in PROGRAMS}))
