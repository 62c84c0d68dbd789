"""The parts that the checkpoints of both AnnealedSVI classes share, and their messages."""

import os
import platform
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO


def write(path: str | os.PathLike[str], save: Callable[[BinaryIO], object]) -> None:
    """Replace a file atomically: a process that is killed meanwhile leaves the old file intact.

    Args:
        path: The file, which may exist.
        save: Writes the new content into a binary file.
    """
    path = os.path.realpath(path)  # os.replace would replace a symbolic link itself
    # Processes of two machines that share a folder may have the same number.
    temporary = f"{path}.{platform.node()}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())  # without this, a power cut could leave an empty file
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def check_like(source: str, name: str, got: Any, expected: Any) -> None:
    """Refuse an array whose shape or dtype is not the expected one."""
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"AnnealedSVI got {source} with {name!r} of shape {tuple(got.shape)} and dtype "
            f"{got.dtype}; expected shape {tuple(expected.shape)} and dtype {expected.dtype}, as "
            "in this process. Build model and guide as they were when the state was saved. "
            f"{UNCHANGED}"
        )


# The functions below make the errors and warnings of this module.


UNCHANGED = "Nothing was changed."


def _names(names: Iterable[str]) -> str:
    found = sorted(names)
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(map(repr, found[:5])) + more


def _reason(error: BaseException) -> str:
    """The cause of an error, without torch's advice to load the file unsafely."""
    text = str(error)
    text = text.partition("WeightsUnpickler error: ")[2].partition(" Please use")[0] or text
    return f"{type(error).__name__}: {next(iter(text.splitlines()), '').strip()}"


def unreadable(path: Any, error: BaseException) -> ValueError:
    """The error about a file that is cut short, damaged, or no checkpoint at all."""
    return ValueError(
        f"AnnealedSVI.load got the file {str(path)!r}, which can't be read as a checkpoint "
        f"({_reason(error)}); expected a whole file that AnnealedSVI.save wrote. Take an earlier "
        f"checkpoint. {UNCHANGED}"
    )


def malformed(source: str, what: str, expected: str) -> ValueError:
    """The error about a state with a missing or an unexpected entry."""
    return ValueError(
        f"AnnealedSVI got {source} with {what}; expected {expected}. Pass what AnnealedSVI saved, "
        f"to a model, a guide and an optimiser like those that it was saved from. {UNCHANGED}"
    )


def not_a_state(got: Any) -> ValueError:
    """The error about an object that is no state of NumPyro's SVI."""
    return ValueError(
        f"AnnealedSVI got a {type(got).__name__} to save or load; expected an SVIState. Pass what "
        "init or update returned, or result.state of what run returned."
    )


def unlike_names(source: str, missing: Iterable[str], unknown: Iterable[str]) -> ValueError:
    """The error about a state whose arrays have other names than expected."""
    parts = [("without", _names(missing)), ("with", _names(unknown))]
    got = " and ".join(f"{word} {names}" for word, names in parts if names)
    return ValueError(
        f"AnnealedSVI got {source} {got}; expected the names of this process. Build model, guide "
        f"and optimiser as they were when the state was saved. {UNCHANGED}"
    )


def first_seen_otherwise(name: str, got: Any, expected: Any) -> ValueError:
    """The error about a loaded parameter that is registered with another shape or dtype."""
    return ValueError(
        f"AnnealedSVI has loaded the parameter {name!r} of shape {tuple(got.shape)} and dtype "
        f"{got.dtype}, and now model or guide registers it with shape {tuple(expected.shape)} and "
        f"dtype {expected.dtype}; expected the same. Build them as they were when the state was "
        "saved."
    )


def renamed(unused: Iterable[str], new: Iterable[str]) -> ValueError:
    """The error about loaded parameters that nothing registers, while new ones are registered."""
    return ValueError(
        f"AnnealedSVI has loaded the parameters {_names(unused)}, which neither model nor guide "
        f"registers, while they register {_names(new)}, which were not loaded and would start "
        "anew; expected the same names. Give modules and sites the names of the run that was saved."
    )


def unused(names: Iterable[str]) -> str:
    """A warning about loaded parameters that nothing registers."""
    return (
        f"AnnealedSVI has loaded the parameters {_names(names)}, which neither model nor guide "
        "registered in their first call; expected each to be registered. They are restored if "
        "they are registered later; a module that is never registered keeps its own numbers. "
        "See docs/getting-started.md."
    )


def not_found(names: Iterable[str]) -> str:
    """A warning about loaded buffers whose module is missing."""
    return (
        f"AnnealedSVI has loaded {_names(names)}, and finds no such buffer or parameter in the "
        "modules that model and guide hold; expected the same modules as when the state was "
        "saved. Their numbers are not restored: build model and guide as they were. "
        "See docs/getting-started.md."
    )


def looked_far(number: int) -> str:
    """A warning that the search for modules was cut off."""
    return (
        f"AnnealedSVI looked at {number:,} objects that model, guide and loss lead to, and there "
        "are more; expected fewer. Buffers of modules further away are neither saved nor loaded. "
        "Make these modules attributes of a PyroModule, or give model and guide fewer objects. "
        "See docs/getting-started.md."
    )


def trained_already(source: str, names: Iterable[str]) -> ValueError:
    """The error about a state that lacks parameters which this process has already trained."""
    return ValueError(
        f"AnnealedSVI got {source} without the parameters {_names(names)}, which this process has "
        "trained already and can't take back; expected all of them. Save after the first step, or "
        f"go back by pyro.clear_param_store() and a new model and guide. {UNCHANGED}"
    )


def other_rank(source: str, got: Any, rank: int) -> ValueError:
    """The error about the random generators of another process of a training in several."""
    return ValueError(
        f"AnnealedSVI got {source} with the random generators of rank {got}, in rank {rank}; "
        f"expected those of rank {rank}: ranks that draw the same noise do not average it out. "
        "Load what this rank saved, or leave 'rng' out of the state and seed each rank "
        f"differently. {UNCHANGED} See docs/devices.md."
    )


def sharded(name: str, holder: str, advice: str) -> ValueError:
    """The error about an array of which each process holds only a part."""
    return ValueError(
        f"AnnealedSVI.save got {name!r}, of which each {holder} holds a part; expected all of it "
        f"in each. {advice}. No file was written. See docs/devices.md."
    )


def cleared() -> ValueError:
    """The error about a param store that was cleared between a load and the next call."""
    return ValueError(
        "AnnealedSVI has loaded parameters that were cleared from Pyro's param store before its "
        "first call, so that training would start anew; expected them there. Call "
        "pyro.clear_param_store() before the load."
    )


def unnamed_parameters() -> ValueError:
    """The error about parameters outside Pyro's param store, as with module_local_params."""
    return ValueError(
        "AnnealedSVI can't save parameters that are not in Pyro's param store, as under "
        "pyro.settings.set(module_local_params=True); expected all of them there. Leave the "
        "setting off, or save the modules and the optimiser yourself."
    )


def unknown_constraint(source: str, name: str, path: str) -> ValueError:
    """The error about a constraint whose class is not imported."""
    return ValueError(
        f"AnnealedSVI got {source} with the constraint {path!r} of the parameter {name!r}; "
        "expected a constraint whose class this process has imported. Import the module that "
        f"defines it. {UNCHANGED}"
    )


def unsaved(error: BaseException) -> ValueError:
    """The error about a state that can't be written without pickle."""
    return ValueError(
        f"AnnealedSVI.save got a state that can't be read without pickle ({_reason(error)}); "
        "expected tensors, numbers and strings. Look at the settings of the optimiser and of its "
        "schedule, and give them as such. No file was written."
    )


def unsaved_constraint(name: str, constraint: Any) -> ValueError:
    """The error about a constraint that can't be written without pickle."""
    return ValueError(
        f"AnnealedSVI.save got the parameter {name!r} with the constraint {constraint!r}; expected "
        "one whose class is defined in a module and whose fields are numbers, tensors or "
        "constraints. Define its class at the top of a module."
    )
