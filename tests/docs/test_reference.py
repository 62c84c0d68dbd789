"""The reference lists every public name, and nothing else."""

import importlib
import re
from pathlib import Path

import pytest

API = Path(__file__).parents[2] / "docs/api"


@pytest.mark.parametrize("module", ["pyro", "numpyro", "torch", "jax", "schedules"])
def test_names(module: str) -> None:
    """A page of the reference lists the names of its module, each once."""
    if module != "schedules":
        pytest.importorskip(module)
    public = importlib.import_module(f"relaxed_dists.{module}").__all__
    listed = re.findall(r"^   (\w+)$", (API / f"{module}.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(public)
