"""The example that measures the exact KL in a VAE, run with few steps and draws."""

import re

import pytest

from test_demo import EXAMPLES, run


@pytest.mark.parametrize(("framework", "name"), [("pyro", "Pyro"), ("numpyro", "NumPyro")])
def test_the_exact_kl_has_the_same_mean_and_less_variance(
    framework: str, name: str, seed: int
) -> None:
    """The gradients' means are equal before and after training, at unequal and equal temperatures.

    The means' distance in standard errors is 1 with a spread of about 0.015 (6,000 logits, 50
    draws). The bound 0.1 is 6 of these spreads. A gradient without the KL is 1.3 or more away.
    """
    pytest.importorskip(framework)
    pytest.importorskip("sklearn"), pytest.importorskip("rich")
    script = EXAMPLES / "exact_kl.py"
    result = run("--quick", "--backend", framework, "--seed", str(seed), script=script)
    assert result.returncode == 0, result.stderr
    rows = re.findall(rf"^ +{name} +(\d+) +([\d.]+) +(.+)$", result.stdout, re.M)
    settings = [(steps, temperature) for steps, temperature, _ in rows]
    assert settings == [("0", "0.667"), ("0", "0.500"), ("100", "0.667"), ("100", "0.500")]
    for _, _, rest in rows:
        sampled, exact, ratio, apart, without, *times = map(float, rest.split())
        assert abs(apart - 1) < 0.1
        assert without > 1.2
        assert exact < sampled
        assert abs(ratio - sampled / exact) < 2e-3 * ratio
        assert len(times) == 2
        assert min(times) > 0


def test_bad_options() -> None:
    """A bad option raises its error before any measurement."""
    result = run("--draws", "1", script=EXAMPLES / "exact_kl.py")
    assert "got --steps 3000 --draws 1; expected at least 1 and 2" in result.stderr
