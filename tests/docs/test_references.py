"""docs/references.md has every paper that a docstring refers to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "relaxed_dists").is_dir():
    pytest.skip("compares the page with the sources, which are not here", allow_module_level=True)


def test_every_paper_of_a_docstring_is_on_the_page() -> None:
    """The titles after "Reference:" are on the page, and the page's titles are in docstrings."""
    cited: set[str] = set()
    for folder in ("relaxed_dists", "backends"):
        for path in (ROOT / folder).rglob("*.py"):
            for part in re.findall(r"Reference:\n((?: +\S.*\n)+)", path.read_text()):
                cited |= set(re.findall(r"\*(.+?)\*", " ".join(part.split())))
    page = " ".join((ROOT / "docs/references.md").read_text().split())
    assert set(re.findall(r"\*(.+?)\*", page)) == cited
