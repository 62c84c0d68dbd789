"""The table of Jang et al.: its trainings, and its results beside the page that shows them."""

import importlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from benchmarks.table1 import __main__ as table1
from benchmarks.table1 import data, report, train
from benchmarks.table1.runs import COLUMNS, PAPER, ROWS, Run, paper
from harness import Backend

PAGE = Path(__file__).parents[2] / "docs/table1.md"
RESULTS = sorted(table1.FOLDER.glob("*.json"))
KEPT = sorted(table1.FOLDER.glob("*.npz"))


@pytest.fixture(autouse=True)
def _needs() -> None:
    for package in ("optax", "rich", "tqdm"):
        pytest.importorskip(package)


def test_a_cut_training_goes_on(backend: Backend, tmp_path: Path) -> None:
    """A training that was cut after a point ends as one that was not, and learns something."""
    rng = np.random.default_rng(0)
    on = rng.beta(0.1, 0.1, (2, 784))[rng.integers(2, size=240)]  # two kinds of images
    images = data.Images(*np.split(rng.random(on.shape) < on, [200, 220]))
    run = Run(backend.framework, "vae-categorical", "soft", steps=4, rate=1e-2, seed=0)
    (tmp_path / "cut").mkdir()
    whole = train.train(run, images, tmp_path, samples=50)
    next(iter(train.fit(run, images, train.started(run, images), tmp_path / "cut")))
    cut = train.train(run, images, tmp_path / "cut", samples=50)
    for result in (whole, cut):
        for point in result["curve"]:
            point.pop("seconds")
        assert [point["step"] for point in result["curve"]] == [2, 4]
    assert cut["curve"] == whole["curve"]
    assert cut["test"] == whole["test"]
    assert whole["curve"][-1]["loss"] < whole["curve"][0]["loss"] - 1
    written = json.loads((tmp_path / f"{run.name}.json").read_text())
    assert written["test"] == whole["test"]
    assert written["test"]["bound"] <= written["test"]["elbo"]


def test_a_relaxed_model(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run has the bound of the relaxed model and of the discrete one, in a row of a table."""
    rng = np.random.default_rng(0)
    images = data.Images(*np.split(rng.random((420, 784)) < 0.2, [200, 220]))
    run = Run(backend.framework, "relaxed-4-ary", "m5", steps=2, rate=1e-3, seed=0)
    result = train.train(run, images, tmp_path, samples=50)
    test, bounds = result["test"], result["bounds"]
    assert bounds["samples"] == 5
    assert test["bound"] < bounds["discrete"] < test["elbo"]
    assert abs(bounds["relaxed"] - bounds["discrete"]) < 30  # of about 400; they are not equal
    report.relaxed([result, result], markdown=True)
    row = capsys.readouterr().out.splitlines()[-2]
    cells = row.strip("| ").split(" | ")
    assert cells[:4] == ["784-(120x4)-784", "0.33, 0.33", "5", report.FRAMEWORKS[run.framework]]
    assert cells[4:6] == [f"{bounds['relaxed']:.1f}", f"{bounds['discrete']:.1f}"]


def test_the_file_of_data_runs_no_code() -> None:
    """A pickle that names a function is refused."""
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print; expected arrays alone"):
        data._Arrays(io.BytesIO(pickle.dumps(print))).load()


def test_bad_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """A number of steps that is not one of whole epochs is refused before any training."""
    with pytest.raises(SystemExit):
        table1.main(["--steps", "600"])
    assert "--steps got 600; expected a multiple of 500" in capsys.readouterr().err


def test_a_chosen_step_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new folder takes the step size that the repository's runs chose, not one run's own."""
    one = {"row": "r", "estimator": "e", "rate": 1.0}
    one |= {"seed": 0, "steps": 20_000, "framework": "numpyro", "validation": {"bound": 3.0}}
    found = [one | {"row": "sbn-bernoulli"}]
    assert report.chosen(found, "sbn-bernoulli", "e") is None
    found.append(found[0] | {"rate": 2.0, "validation": {"bound": 2.0}})
    assert report.chosen(found, "sbn-bernoulli", "e") == 2.0
    table1.main(["--list", "--results", str(tmp_path), "--seed", "7", "--framework", "pyro"])
    names = capsys.readouterr().out.split()
    assert "sbn-bernoulli_soft_pyro_rate0.003_steps60000_seed7" in names
    assert len(names) == 12
    table1.main(["--list", "--quick", "--seed", "7"])
    assert "sbn-bernoulli_st_numpyro_rate0.01_steps20000_seed7" in capsys.readouterr().out


def test_bad_combinations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The other paper's estimators are refused; --keep without a checkpoint says what to do."""
    with pytest.raises(SystemExit):
        table1.main(["--row", "relaxed-binary", "--estimator", "soft"])
    expected = "--row relaxed-binary has no --estimator soft; see --paper"
    assert expected in capsys.readouterr().err
    run = Run("numpyro", "vae-categorical", "soft", steps=500, rate=1e-3, seed=0)
    none = np.zeros((0, 784), bool)
    with pytest.raises(SystemExit, match=r"there is no .*seed0\.checkpoint.*by the same options"):
        train.keep(run, data.Images(none, none, none), tmp_path)


def test_a_cell_is_the_mean_of_its_seeds() -> None:
    """Three seeds give the mean, and its error by the images and by the seeds."""
    found = [{"test": {"bound": x, "error": 0.4}} for x in (99.0, 100.0, 104.0)]
    assert report.cell(found) == "101.0 ± 1.6, 3 seeds"  # the deviation is 2.65
    assert report.cell(found[:1]) == "99.0 ± 0.4, one seed"


def test_results_have_the_names_of_their_runs() -> None:
    """A JSON's name is that of the run whose settings it has."""
    assert RESULTS
    for path in RESULTS:
        result = json.loads(path.read_text())
        run = Run(**{name: result[name] for name in Run.__dataclass_fields__})
        assert run.name == path.stem
        assert result["curve"][-1]["step"] == run.steps


@pytest.mark.parametrize("framework", report.FRAMEWORKS)
@pytest.mark.parametrize("estimator", COLUMNS)
@pytest.mark.parametrize("row", [f"{a}-{b}" for a, b in PAPER])
def test_the_cells_are_not_above_the_papers(row: str, estimator: str, framework: str) -> None:
    """The runs of three seeds are at or below the paper's number, within one standard error.

    The VAE is the one with a hidden layer in the decoder.
    """
    found = [json.loads(path.read_text()) for path in RESULTS]
    names = row, estimator, framework, ROWS[row].steps
    keys = "row", "estimator", "framework", "steps"
    runs = [r for r in found if tuple(r[key] for key in keys) == names]
    assert sorted(r["seed"] for r in runs) == [0, 1, 2]
    assert len({r["rate"] for r in runs}) == 1
    mean, error = report.mean(runs)
    assert mean - error <= (paper(row, estimator) or 0)


def test_the_page_has_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """The page shows the tables that the command prints from the JSONs."""
    table1.main(["--table", "--markdown"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) > 4
    shown = PAGE.read_text().splitlines()
    assert [row for row in rows if row not in shown] == []


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_result_is_computed_again(backend: Backend, path: Path) -> None:
    """Each framework finds the bound that NumPyro found for the parameters it had trained."""
    kept = dict(np.load(path))
    result = json.loads(path.with_suffix(".json").read_text())
    run = Run(**{name: result[name] for name in Run.__dataclass_fields__})
    bound, error = float(kept.pop("bound")), float(kept.pop("error"))
    frequencies = kept.pop("frequencies")
    images = np.unpackbits(kept.pop("images")).reshape(-1, frequencies.size)
    module = importlib.import_module(f"benchmarks.table1.in_{backend.framework}")
    again = module.bounds_of(run, frequencies, kept, images, samples=1000)
    found = -again.importance_weighted / len(images)
    deviation = np.hypot(error, again.importance_weighted_error / len(images))
    assert abs(found - bound) < 4 * deviation
    assert 4 * deviation < 1
