"""The docstrings of both backends are equal, except for the words of a framework."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

from test_arguments import ALONE, PAIRS

# NumPyro's and JAX's words, each with Pyro's or torch's.
WORDS = {
    "NumPyro": "Pyro",
    "numpyro": "pyro",
    "an array": "a tensor",
    "An array": "A tensor",
    "any array": "any tensor",
    "Any array": "Any tensor",
    "arrays": "tensors",
    "(while the same object lives)": "(a Python attribute)",  # where a draw keeps its sample
    '"eta", 1.0)': '"eta", torch.tensor(1.0))',
}
# Methods of a training's state, which Pyro keeps in its store, and NumPyro passes as an argument.
OTHERS = [f"AnnealedSVI.{name}" for name in ("evaluate", "evaluate_loss", "load", "save")]
# The first words of sentences that differ between the frameworks, or are in one framework only.
OWN = {
    "AnnealedSVI": [
        "A whole run",
        "An ELBO that compiles",
        "If the step is traced",
        "Raises: ValueError: If there is a temperature",
        "Step a learning-rate schedule",
        "The first step checks this",
        "The optimiser's state counts",
        "The state holds everything",
        "With several particles",
        "For minibatches, let",
        "``steps`` is the number",
        "`run` passes",
        "`save` writes",
        "``init`` checks this",
        "optim: A Pyro",
    ],
    "AutoRelaxed": ["Required if there are continuous sites"],
    "GumbelSoftmaxReparam": ["A relaxed site ``x``", "Pyro's ``AutoReparam``", "Name these sites:"],
    "LeaveOneOut_ELBO": ["Draw the minibatch outside"],
    "Permutation": ["SciPy finds the matching"],
    "RELAX_ELBO": ["Args: surrogate:", "The surrogate gets its parameters", "The guide declares"],
    "RelaxedBernoulli": ["The gradient of ``log_prob``"],
    "RelaxedBernoulliStraightThrough": ["The gradient of ``log_prob``"],
    "RelaxedOneHotCategorical": ["The gradient of ``log_prob``"],
    "RelaxedOneHotCategoricalStraightThrough": ["The gradient of ``log_prob``"],
    "RelaxedReparam": ["Under Pyro's own ``poutine.reparam``"],
    "discretize": [
        "Returns: The model or the guide",
        "The first such call refuses",
        "The handler also works inside",
    ],
    "evidence_bounds": [
        "Arrays may be sharded",
        "Inside ``jit``",
        "As with ``vectorize_particles``",
        "Buffers of modules",
        "Each sample has its own key",
        "The samples come from",
        "Within ``pyro.poutine.seed",
        "Each call compiles model",
        "Calls with equal shapes",
        "If the model or the guide can't run",
        "In training mode",
        "chunk_size:",
    ],
    "exact_evidence": [
        "Arrays may be sharded",
        "Buffers of modules",
        "Inside ``jit``",
        "ModuleNotFoundError:",
        "The enumeration needs funsor",
    ],
    "gumbel_softmax": ["The arguments are", "Args: logits:"],
    "relax": ["Returns: The relaxed model", "The first call with data checks this"],
    ".expand": ["The same distribution with its parameters"],  # torch makes no copy
    ".sample": ["Draw"],  # torch's has no gradient
}


def twins(name: str) -> Iterator[tuple[str, Any, Any]]:
    """The objects of a public name in both backends, and their common methods and properties."""
    first, second = PAIRS[name]
    yield name, first, second
    if isinstance(first, type) and first is not second:
        for member in sorted(members(first) & members(second)):
            yield f"{name}.{member}", getattr(first, member), getattr(second, member)


def members(cls: type) -> set[str]:
    """The public methods and properties that a backend defines, not inherited from a framework."""
    own = [vars(base) for base in cls.__mro__ if base.__module__.startswith("relaxed_dists_")]
    found = {name: x for base in own for name, x in base.items() if not name.startswith("_")}
    return {k for k, x in found.items() if isinstance(x, property) or inspect.isroutine(x)}


def of(table: dict[str, Any], name: str, default: Any) -> Any:
    """The entry of a name, or of a method of any class."""
    return table.get(name) or table.get("." + name.partition(".")[2]) or default


def sentences(text: str, alone: str) -> list[str]:
    """A docstring without its example and the arguments of one framework, in Pyro's words."""
    text = re.sub(r"^Example:\n(\s*\n|    .*(\n|$))*", "", text, flags=re.M)
    for argument in alone.split():
        text = re.sub(rf"^    {argument}: .*\n?(        .*\n?)*", "", text, flags=re.M)
    text = re.sub(r"^Args:\s*(?=^\S|\Z)", "", text, flags=re.M)
    text = " ".join(text.split())
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return re.split(r"(?<=[.]) ", text)


def compared(name: str, first: Any, second: Any) -> list[list[str]]:
    """The sentences of both docstrings that must be equal."""
    own = tuple(of(OWN, name, ()))
    return [
        [s for s in sentences(inspect.getdoc(x) or "", alone) if not s.startswith(own)]
        for x, alone in zip((first, second), of(ALONE, name, ("", "")), strict=True)
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_docstrings(name: str) -> None:
    """Both docstrings have the same sentences, except those in the table of a framework's own."""
    for member, first, second in twins(name):
        if member not in OTHERS:
            ours, theirs = compared(member, first, second)
            assert ours == theirs, member


def test_a_changed_word_is_found() -> None:
    """The comparison finds a changed word, and a changed order of sentences."""
    (first, _), name = PAIRS["HardConcrete"], "HardConcrete"
    text = inspect.getdoc(first) or ""
    for changed in (text.replace("gate", "door", 1), f"Reference. {text}"):
        second = type("Changed", (), {"__doc__": changed})
        ours, theirs = compared(name, first, second)
        assert ours != theirs


def test_each_sentence_of_its_own_differs() -> None:
    """The table has no sentence that is in both docstrings or in neither."""
    for name, beginnings in OWN.items():
        found = [
            [sentences(inspect.getdoc(x) or "", alone) for x, alone in zip(pair, more, strict=True)]
            for each in PAIRS
            for member, *pair in twins(each)
            if member == name or name == "." + member.partition(".")[2]
            for more in [of(ALONE, member, ("", ""))]
        ]
        for beginning in beginnings:
            pairs = [[{s for s in x if s.startswith(beginning)} for x in pair] for pair in found]
            assert any(ours != theirs for ours, theirs in pairs), (name, beginning)
