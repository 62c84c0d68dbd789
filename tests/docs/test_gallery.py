"""The gallery's results reach their levels. `make docs` runs the examples, and reads them here."""

import os
import re
from pathlib import Path
from textwrap import dedent

import pytest

SOURCES = Path(__file__).parents[2] / "docs/examples/gallery"
BUILT = Path(os.environ.get("GALLERY", "no gallery"))

# For each example, what is printed after these words lies between these numbers.
LEVELS = {
    "simplex": [("temperature 2.0.* off by", 0, 0.007), ("temperature 0.2.* off by", 0, 0.007)],
    "irises": [
        ("log evidence at the fitted parameters:", -180, -163.5),  # a single normal has -469
        ("log evidence at the parameters of EM:", -164, -163.5),
        ("importance-weighted bound:", -180, -163),
        ("evidence lower bound:", -185, -163),
        ("Rand index.:", 0.8, 1),
    ],
    "digits_vae": [
        ("annealed:.* test ELBO", -20, -15),
        ("held at 1:.* test ELBO", -30, -20.5),
        ("annealed: .*importance-weighted", -18.5, -15),
        ("independent pixels:", -25.2, -25.1),
    ],
    "few_labels": [
        ("log evidence, fitted:", 14, 16.5),
        ("log evidence, by its exact gradient:", 15.5, 16.5),
        ("accuracy, fitted:", 0.82, 0.9),
        ("accuracy, logistic.*:", 0.8, 0.82),
    ],
    "diabetes": [("decided gates:.* at most", 0, 0.2)],
    "graph": [("decided arrows:.* at most", 0, 0.3)],
    "pixels": [
        ("accuracy, learned pixels:", 0.86, 0.95),
        ("accuracy, by chance, mean of 20:", 0.6, 0.75),
    ],
    "experts": [
        ("evidence lower bound:", -1.05, -0.7),
        ("held out, relaxed:", -1.05, -0.7),
        ("held out, summed out:", -0.8, -0.6),
        ("held out, one plane:", -1.35, -1.25),
    ],
    "map": [("fitted:", 5, 6), ("exact:", 5, 6)],
    "sorting": [("at their places:", 0.75, 1), ("wholly sorted:", 0.5, 1)],
    "hmm": [
        ("relaxed: log evidence", -2265, -2251),  # a single normal has -2384
        ("exact: log evidence", -2253, -2251),
        ("evidence lower bound:", -2290, -2251),
        ("posterior agree:", 85, 100),
    ],
}


def outputs(text: str) -> str:
    """All that an example printed, from its generated page."""
    blocks = re.findall(
        r"rst-class:: sphx-glr-script-out\n\n \.\. code.*\n\n((?: +.*\n|\n)+)", text
    )
    return dedent("".join(blocks))


def missed(output: str, levels: list[tuple[str, float, float]]) -> list[str]:
    """The levels that an output does not reach, each with what was printed."""
    found = []
    for words, low, high in levels:
        number = re.search(words + r"\s*(-?\d+(?:\.\d+)?)", output)
        if not (number and low <= float(number[1]) <= high):
            found.append(f"{words} {number and number[1]}: expected {low} to {high}")
    return found


@pytest.mark.parametrize("name", LEVELS)
def test_the_printed_results_reach_their_levels(name: str) -> None:
    """Each example reaches its levels, as built."""
    if not BUILT.is_dir():
        pytest.skip("`make docs` builds the gallery and names it in $GALLERY")
    output = outputs((BUILT / f"{name}.rst").read_text())
    assert not missed(output, LEVELS[name]), output


def test_each_example_has_levels() -> None:
    """No example is without a level."""
    assert {path.stem for path in SOURCES.glob("*.py")} == set(LEVELS)


def test_a_worse_result_and_a_missing_one_are_found() -> None:
    """The check fails for numbers on either side, and where nothing was printed."""
    page = (
        "Text: 3\n\n.. rst-class:: sphx-glr-script-out\n\n .. code-block:: none\n\n"
        "    bound: -3.5\n    off by 2\n\n\nText: 5\n"
    )
    output = outputs(page)
    assert output.strip() == "bound: -3.5\noff by 2"
    assert not missed(output, [("bound:", -4, -3), ("off by", 2, 2)])
    assert missed(output, [("bound:", -3, 0)]) == ["bound: -3.5: expected -3 to 0"]
    assert missed(output, [("off by", 0, 1), ("Text:", 0, 9)]) == [
        "off by 2: expected 0 to 1",
        "Text: None: expected 0 to 9",
    ]
