"""The README's examples, run without changes."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("framework", ["pyro", "numpyro"])
def test_example(framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The example's posterior is within 0.15 of the exact one (the start is off by 2/3)."""
    pytest.importorskip(framework)
    if framework == "pyro":
        pytest.importorskip("pyro").set_rng_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (code,) = [block for block in blocks if f"relaxed_dists.{framework} " in block]
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    numbers = re.findall(r"\d\.\d+(?:e-\d+)?", capsys.readouterr().out)
    posterior = np.array(numbers[:9], float).reshape(3, 3)
    x, means = np.array([-2.0, 0.1, 1.9]), np.array([-2.0, 0.0, 2.0])
    exact = np.exp(log_softmax(-0.5 * ((x[:, None] - means) / 0.5) ** 2, -1))
    np.testing.assert_allclose(posterior, exact, atol=0.15)
