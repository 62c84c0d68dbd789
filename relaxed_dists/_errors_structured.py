"""The errors of subsets and permutations, the same text in both backends."""

from collections.abc import Sequence
from typing import Any


def bad_size(name: str, k: Any, categories: int) -> ValueError:
    """A number of categories that can't be drawn."""
    return ValueError(
        f"{name} got k={k!r} of {categories} categories; expected a whole number from 1 to "
        f"{categories}, the same for the whole batch. Give it as a Python number."
    )


def no_size(name: str, categories: int) -> ValueError:
    """No k: Pyro makes the marginal of an enumerated site from its class and logits alone."""
    return ValueError(
        f"{name} got k=None of {categories} categories; expected a whole number from 1 to "
        f"{categories}. If Pyro asked, for the marginals or posterior samples of an enumerated "
        "site: given the other sites its value is no Subset any more. With values = "
        "subset.enumerate_support() draw i from Categorical(logits=subset.log_prob(values)) "
        "instead, and write values[i]."
    )


def too_few(name: str, k: int, logits: Any) -> ValueError:
    """Masks that leave fewer categories than are drawn."""
    return ValueError(
        f"{name} got a row with fewer than k={k} categories that are not masked: {logits}; "
        "expected at least that many. Take a smaller k, or mask fewer."
    )


def too_many(name: str, number: int, limit: int) -> NotImplementedError:
    """More subsets than can be enumerated."""
    return NotImplementedError(
        f"{name} has {number} values; expected at most {limit} to enumerate. "
        "Draw from it, or use a smaller k."
    )


def no_subset_integers() -> NotImplementedError:
    """NumPyro's enumeration of values that are no integers."""
    return NotImplementedError(
        "NumPyro's enumeration (of NUTS, TraceEnum_ELBO or scan) got a Subset, and would give it "
        "the numbers 0, 1, 2 and so on; expected a law of such numbers. For the evidence take "
        "exact_evidence, without scan; or with values = law.enumerate_support() draw i from "
        "Categorical(logits=law.log_prob(values)) and write values[i]."
    )


def not_square(name: str, shape: Sequence[int]) -> ValueError:
    """Scores that are no square matrix."""
    return ValueError(
        f"{name} got logits of shape {tuple(shape)}; expected shape (..., N, N), a score of each "
        "item (row) at each place (column). Put the two axes last."
    )


def bad_iterations(name: str, iterations: Any) -> ValueError:
    """A number of Sinkhorn's normalisations that is none."""
    return ValueError(
        f"{name} got iterations={iterations!r}; expected a whole number of at least 1. "
        "Its authors take 20; more at temperatures below 1."
    )


def no_permutation(name: str, logits: Any) -> ValueError:
    """Masks that leave no permutation."""
    return ValueError(
        f"{name} got masks that leave no permutation: {logits}; expected a way to give each row a "
        "column of its own. Mask fewer."
    )


_UNCOUNTED = (
    "To draw from it where no density is needed, add .mask(False): "
    'sample("z", law.mask(False)), in the model and in the guide, counts as 0 in an ELBO'
)


def no_subset_density(name: str) -> NotImplementedError:
    """The density of a relaxed subset."""
    return NotImplementedError(
        f"{name} has no log_prob: the density of its rounds of softmax is not known; expected a "
        f"law with one. {_UNCOUNTED}; Subset (.discrete) has the exact log_prob of a hard value; "
        "and for k=1 take RelaxedOneHotCategorical."
    )


def no_permutation_density(name: str) -> NotImplementedError:
    """The density of a relaxed permutation, or the mass of a discrete one."""
    why = (
        "the density of Sinkhorn's matrices is not known"
        if name.startswith("Relaxed")
        else "the probability that a matrix is the best matching of N^2 noisy scores is a sum over "
        "N! regions without a closed form"
    )
    return NotImplementedError(
        f"{name} has no log_prob: {why}; expected a law with one. {_UNCOUNTED}; any penalty that "
        "you can write, of the logits or of the value, is a factor."
    )


def no_symbolic_matching(shape: Sequence[Any]) -> NotImplementedError:
    """A matching in a program that jax.export makes."""
    return NotImplementedError(
        f"A permutation got scores of the symbolic shape {tuple(shape)}; expected numbers, since "
        "the matching is a call from compiled code to SciPy, which jax.export can't serialise. "
        "Export RelaxedPermutation with hard=False, and match what the program returns."
    )


def no_probs(name: str) -> NotImplementedError:
    """Probabilities of a matrix of scores."""
    return NotImplementedError(
        f"{name} has no probs: its logits are scores, and no row of them is a law of its own; "
        "expected logits. Use the mean of some draws for how often an item is at a place."
    )


def no_transform(name: str) -> NotImplementedError:
    """A sampler or an autoguide that moves through values without a density."""
    return NotImplementedError(
        f"HMC, NUTS or an autoguide got a site of {name}, which has no density; expected one that "
        "has. Write the guide's site yourself, or draw Gumbel noise and compute the value of it."
    )


def mixed(site: str, model: str, guide: str) -> ValueError:
    """A site that is relaxed on one side and discrete on the other."""
    hard = "Subset" if "Subset" in model + guide else "Permutation"
    exact = f"{hard} in both, whose log_prob is exact; or " if hard == "Subset" else ""
    return ValueError(
        f"AnnealedSVI got the site '{site}', which the model draws from {model} and the guide from "
        f"{guide}; expected two relaxed laws or two discrete ones. Write {exact}Relaxed{hard}(...)"
        f".mask(False) in both, which counts as 0. To go on with the mixture, name the site: "
        f"allow_mixed=['{site}']."
    )
