"""Errors about bad input, with the input, what was expected and a remedy (long: many errors)."""

from collections.abc import Sequence
from typing import Any


def is_number(x: Any) -> bool:
    """Whether x is an int, a float, or an array without dimensions."""
    return isinstance(x, (int, float)) or getattr(x, "shape", None) == ()


def one_of(name: str, probs: Any, logits: Any) -> None:
    """Raise an error unless exactly one of probs and logits is given."""
    if (probs is None) == (logits is None):
        got = "neither probs nor logits" if probs is None else "both probs and logits"
        raise ValueError(f"{name} got {got}; expected exactly one of them. Pass one by its name.")


def bad_temperature(name: str, temperature: Any, field: str = "temperature") -> ValueError:
    """The error about a temperature that is not positive, or too small or large to compute with."""
    return ValueError(
        f"{name} got {field}={temperature}; expected positive numbers from 2**-20 to 2**20 "
        "(1e-6 to 1e6). Give the annealing schedule a floor above zero."
    )


def bad_temperature_shape(name: str, shape: Sequence[int], batch: Sequence[int]) -> ValueError:
    """The error about a temperature that does not broadcast with the batch shape."""
    return ValueError(
        f"{name} got a temperature of shape {tuple(shape)} for the batch shape {tuple(batch)}; "
        "expected shapes that broadcast: one temperature a row, never one a category. "
        "Drop the temperature's event dimension. See docs/input.md."
    )


def cannot_expand(name: str, shape: Sequence[int], expanded: Sequence[int]) -> ValueError:
    """The error about a batch shape that a distribution can't be expanded to."""
    return ValueError(
        f"{name}.expand got the batch shape {tuple(expanded)} for a distribution of batch shape "
        f"{tuple(shape)}; expected a shape that it broadcasts to, with at least as many "
        "dimensions. Index the parameters to make it smaller."
    )


def not_a_shape(name: str, shape: Any) -> ValueError:
    """The error about a shape that is not a sequence of whole numbers."""
    return ValueError(
        f"{name} got {shape!r} as a shape; expected a tuple of whole numbers, such as (5,) for "
        "five draws or rows. Write a comma after a single number."
    )


def no_categories(name: str, parameter: str, shape: Sequence[int]) -> ValueError:
    """The error about an event without categories."""
    return ValueError(
        f"{name} got {parameter} of shape {tuple(shape)}; expected shape (..., K) with at least "
        "one category on the last axis. Put the categories last. See docs/input.md."
    )


def not_real(name: str, what: str, x: Any) -> ValueError:
    """The error about an argument that is not an array of real numbers."""
    return ValueError(
        f"{name} got {what} of type {getattr(x, 'dtype', type(x).__name__)}; expected real "
        "numbers: floating ones of 16 bits or more, integers or booleans, in an array, a nested "
        "list or alone. Convert them first."
    )


def distributed(name: str, what: str) -> ValueError:
    """The error about a DTensor of torch, with which torch's random functions do not compute."""
    return ValueError(
        f"{name} got {what} as a DTensor, of which each rank may hold a part; expected a Tensor. "
        "Use the parameters of fully_shard inside the forward of the module that it wraps, or pass "
        f"{what}.full_tensor(), whose gradient reaches the DTensor. See docs/devices.md."
    )


def bad_logits(name: str, logits: Any, one_hot: bool) -> ValueError:
    """The error about logits that describe no distribution."""
    got = "NaN, +inf, numbers from 2**24 up" + (", or a row of only -inf" if one_hot else "")
    expected = "numbers below 2**24, " + (
        "or -inf to mask a category, and not a whole row of -inf" if one_hot else "or -inf"
    )
    return ValueError(
        f"{name} got logits with {got}: {logits}; expected {expected}. "
        "Look for an overflow in what computes them."
    )


def bad_probs(name: str, probs: Any, one_hot: bool) -> ValueError:
    """The error about probs that describe no distribution."""
    if one_hot:
        got, expected = "negative, not finite, or a row of zeros", "weights of at least"
        expected += " 0 with a positive sum on the last axis (they are normalised)"
    else:
        got, expected = "outside [0, 1] or NaN", "numbers from 0 to 1"
    return ValueError(
        f"{name} got probs that are {got}: {probs}; expected {expected}. "
        "Pass unbounded numbers as logits instead."
    )


def bad_shape(scorer: str, shape: Sequence[int], expected: Sequence[int]) -> ValueError:
    """The error about a value whose shape does not fit the distribution."""
    return ValueError(
        f"{scorer} got a value of shape {tuple(shape)}; expected a shape that broadcasts "
        f"with {tuple(expected)} and ends with the event shape. Check the sample's dimensions. "
        "See docs/input.md."
    )


def wrong_argument(call: str, name: str, got: Any, expected: str) -> ValueError:
    """The error about an argument of the wrong type, as if another argument was left out.

    Args:
        call: The function with its arguments, as the user should write it.
        name: The name of the argument.
        got: The argument.
        expected: What the argument should be.
    """
    shape = f" and shape {got.shape}" if hasattr(got, "shape") else ""
    return ValueError(
        f"{call.partition('(')[0]} got {name} of type {type(got).__name__}{shape}; "
        f"expected {expected}. Write {call}."
    )


def not_a_key(key: Any) -> ValueError:
    """The error about an argument that is not exactly one random key."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    got = repr(key) if dtype is None else f"an array of dtype {dtype} and shape {shape}"
    return ValueError(
        f"A draw got {got} as its random key; expected one key, such as jax.random.key(0). Draw "
        "with several keys by jax.vmap(distribution.sample)(keys), with one key several times by "
        "sample_shape, and run a model inside of numpyro.handlers.seed."
    )


def not_a_generator(key: Any) -> ValueError:
    """The error about an argument that is no generator of torch."""
    return ValueError(
        f"A draw got the key {key!r}; expected a torch.Generator, or None for torch's global one. "
        "Pass torch.Generator().manual_seed(0), on the device of the logits."
    )


def off_support(scorer: str, value: Any, support: str, remedy: str) -> ValueError:
    """The error about a value off the support."""
    return ValueError(f"{scorer} got {value}; expected {support}. {remedy}")


WRITTEN = (
    "log_prob got a value that has lost the relaxed sample behind it, since compiled code wrote to "
    "it in place; expected the value as it was drawn. Write to a copy of it. See "
    "docs/lost-samples.md."
)


def lost(name: str) -> ValueError:
    """The error about a straight-through value without its relaxed sample, which is scored."""
    return ValueError(
        f"{name}.log_prob got a value that has lost the relaxed sample behind it; expected the "
        "very object that the distribution drew: a copy, an index, a reshape, an in-place write "
        "or a transformation's boundary loses it. Three ways need no carried sample: a site of "
        f"{'LogitRelaxedBernoulli' if 'Bernoulli' in name else 'ExpRelaxedOneHotCategorical'} "
        "with straight_through after it; "
        f"{'Bernoulli' if 'Bernoulli' in name else 'OneHotCategorical'} with an estimator; or "
        ".discrete.log_prob(value) for the mass of the hard value. See docs/lost-samples.md."
    )


LOSES = "a copy, an index, a reshape or a transform loses the sample"


def rounded(scorer: str, binary: bool, seen: bool, instead: str = "") -> ValueError:
    """The error about a rounded value whose relaxed sample is lost, and so its density too.

    Args:
        scorer: The method or function that was called.
        binary: Whether the value is a number, not a vector.
        seen: Whether the value is known to be rounded.
        instead: What the message advises to use; by default a site in log or logit space.
    """
    space = "LogitRelaxedBernoulli" if binary else "ExpRelaxedOneHotCategorical"
    what = f"is rounded to {'0 or 1' if binary else '0 in some entries'}"
    return ValueError(
        f"{scorer} got a value that has lost the relaxed sample behind it, and that "
        f"{what if seen else 'may be rounded, which cannot be seen in a compiled ELBO'}, so that "
        "its density is not known; expected the very object that the distribution drew, or "
        f"numbers inside the {'interval' if binary else 'simplex'}: {LOSES}. Use "
        f"{instead or f'a site of {space}'} with {'sigmoid' if binary else 'exp'} after it, whose "
        "values hold their density. See docs/lost-samples.md."
    )


def no_kl(p: Any, q: Any) -> ValueError:
    """The error about a divergence between a relaxed distribution and a discrete one."""
    return ValueError(
        f"kl_divergence got {type(p).__name__} and {type(q).__name__}; expected two relaxed "
        "distributions or two discrete ones, since a density has no divergence from a mass. Choose "
        "one of three (Maddison et al. 2017, appendix C.2): a relaxed model with a relaxed guide, "
        "a bound of the relaxed model's evidence; a discrete model with a discrete guide that has "
        "an estimator, the bound of the discrete model, its gradient estimated; or a discrete "
        "model with a relaxed guide under an ELBO of samples "
        "and AnnealedSVI(..., allow_mixed=[site]), finite, but a bound of nothing. "
        "See docs/pairings.md."
    )


def no_common_space(p: Any, q: Any) -> ValueError:
    """The error about a divergence between distributions whose values are of different kinds."""
    return ValueError(
        f"kl_divergence got {type(p).__name__} and {type(q).__name__}, whose values are of "
        "different spaces; expected distributions on the same one. Use the same class for both "
        "sites, such as ExpRelaxedOneHotCategorical."
    )


def no_known_kl(p: Any, q: Any) -> NotImplementedError:
    """The error about a divergence between distributions whose density is not known."""
    return NotImplementedError(
        f"kl_divergence got {type(p).__name__} and {type(q).__name__}, whose density is not known; "
        "expected distributions that have one. Add .mask(False) to both, which counts as 0. "
        "See docs/subsets.md."
    )


def unlike_shapes(p: Any, q: Any) -> ValueError:
    """The error about a divergence between distributions of shapes that do not fit together."""
    got = " and ".join(
        f"{type(x).__name__} of batch shape {tuple(x.batch_shape)} and event shape "
        f"{tuple(x.event_shape)}"
        for x in (p, q)
    )
    return ValueError(
        f"kl_divergence got {got}; expected the same event shape and batch shapes that "
        "broadcast. Give both distributions the same categories; -inf in the logits leaves "
        "one out."
    )


def no_mode(name: str) -> NotImplementedError:
    """The error about the mode of a density that is unbounded or has no mode in closed form."""
    binary, k = "Bernoulli" in name, "1" if "Bernoulli" in name else "K - 1"
    where = "at 0 or 1" if binary else "at the corners of the simplex"
    log_law = "LogitRelaxedBernoulli" if binary else "ExpRelaxedOneHotCategorical"
    return NotImplementedError(
        f"{name} got asked for its mode, which does not exist below temperature {k}, where the "
        f"density is unbounded {where}, and has no closed form above; expected a distribution that "
        f"has one. Use .discrete.mode for the most probable category, or the mode of {log_law}."
    )


def no_cdf(name: str) -> NotImplementedError:
    """The error about the cdf of values 0 and 1 whose density is that of a relaxed sample."""
    return NotImplementedError(
        f"{name} has no cdf: its values are 0 and 1, its density that of the relaxed sample behind "
        "them; expected one distribution. Use RelaxedBernoulli for the relaxed sample's cdf, or "
        ".discrete for the probabilities of 0 and 1."
    )


def missing(name: str, what: str, family: Any) -> NotImplementedError:
    """The error about a method, such as entropy, that a distribution lacks.

    Args:
        name: The name of the distribution's class.
        what: The name of the method.
        family: The object that has the distribution's formulas.
    """
    unknown = "log_prob" in family.lacks  # no formula for its density or mass
    why, remedy = "no formula for it is known", "Draw from it."
    if what == "rsample":
        why, remedy = "its values carry no gradient", "Call sample."
        if name in ("Subset", "Permutation"):
            remedy = f"Use Relaxed{name} with hard=True, or call sample."
    elif what == "enumerate_support" and not family.is_discrete:
        why = "its values are real numbers"
        remedy = remedy if name == "RelaxedPermutation" else "Use .discrete.enumerate_support()."
    elif what in ("cdf", "icdf") and name == "Bernoulli":
        why = "its values are 0 and 1"
        remedy = "Use .probs: at most 0 has the probability 1 - probs."
    elif what in ("cdf", "icdf") and family.event_dim:
        why = "its values are vectors or matrices, which have no order"
        remedy = "Compare draws entry by entry; the binary relaxed distributions have a cdf."
    elif what in ("cdf", "icdf"):
        remedy = "Compare draws with the value."
    elif what == "conjugate_update":
        why = "no distribution is conjugate to it"
        remedy = "Use SVI, or exact_evidence for a discrete model."
    elif what in ("mean", "variance"):
        why = "no closed form is known"
        remedy = "Average draws" + (
            f" for the relaxed value; .discrete.{what} is that of the hard one, and for k=1 "
            "RelaxedOneHotCategorical has it."
            if name == "RelaxedSubset"
            else "."
        )
    elif unknown:
        why = f"its {'mass' if family.is_discrete else 'density'} is not known"
        if what == "mode" and not family.is_discrete:
            remedy = "Use .discrete.mode, the most probable hard value."
        elif what in ("entropy", "kl"):
            remedy = "Write a penalty of the logits or of the value as a factor."
            if name == "RelaxedSubset":
                remedy = "Use .discrete.entropy(), that of the hard value."
    elif what in ("entropy", "kl"):
        remedy = "Average log densities of draws."
    return NotImplementedError(
        f"{name} has no {what}: {why}; expected a distribution that has one. {remedy}"
    )


def missing_outside(name: str, what: str) -> NotImplementedError:
    """The error about a method that only the distribution inside a wrapper has."""
    return NotImplementedError(
        f"{name} has no {what} where it is masked or its batch dimensions are event dimensions; "
        "expected the distribution inside. Ask its .base_dist."
    )


def bad_probability(name: str, q: Any) -> ValueError:
    """The error about an argument of icdf outside [0, 1]."""
    return ValueError(
        f"{name}.icdf got {q}; expected probabilities from 0 to 1. Apply cdf to values first."
    )


def no_such_estimator(name: str, estimator: Any) -> ValueError:
    """The error about an argument that is not an estimator, such as a number or a class."""
    got, remedy = repr(estimator), "Give one, such as GumbelSoftmax(temperature)"
    if isinstance(estimator, type) and hasattr(estimator, "one_hot"):
        got = f"the class {estimator.__name__}"
        remedy = f"Call it: {estimator.__name__}(...)"
    return ValueError(
        f"{name} got {got} as its estimator; expected a value such as StraightThrough(), or a "
        f"function of logits, the one-hot draw and its Gumbel noise. {remedy}."
    )


def no_samples(name: str, samples: Any) -> ValueError:
    """The error about a number of samples that is not a positive whole number."""
    return ValueError(
        f"{name} got samples={samples!r}; expected a whole number from 1 to 2**31 - 1. "
        "Take 10, or GumbelSoftmax(temperature) for one draw of the noise."
    )


def bad_gap(name: str, gap: Any) -> ValueError:
    """The error about an estimator's gap that is negative or not finite."""
    return ValueError(
        f"{name} got gap={gap!r}; expected a finite number of at least 0. Its authors take 1."
    )


def too_cold(temperature: float) -> ValueError:
    """The error about a temperature below 1 for ReinMax."""
    return ValueError(
        f"ReinMax got temperature={temperature}; expected a number of at least 1, since below it "
        "the bias grows and the variance does not fall. Do not anneal it; take 1. "
        "See docs/estimators.md."
    )


NO_SECOND = (
    "ReinMax and ReinMaxRao got asked for a second derivative; expected first ones only, since "
    "their gradient is no derivative of anything. Take GumbelSoftmax(temperature), whose soft "
    "sample has one."
)


def no_enumeration(name: str) -> NotImplementedError:
    """The error about the enumeration of a distribution with an estimator."""
    return NotImplementedError(
        f"{name} can't be enumerated with an estimator, since an enumerated value carries no "
        "pathwise gradient; expected estimator=None. Use .discrete, or drop the estimator. "
        "See docs/machinery.md."
    )


def no_estimator(name: str) -> NotImplementedError:
    """The error about a call of rsample without an estimator."""
    return NotImplementedError(
        f"{name} has no rsample without an estimator; expected "
        f"{name}(..., estimator=...). Pass StraightThrough() or GumbelSoftmax(temperature), "
        "or call sample."
    )


SOFT_VALUES = (
    "A soft value is scored only by the object drawn with GumbelSoftmax(t, hard=False), or by a "
    "distribution with that estimator; a relaxed distribution's (allow_mixed) with "
    "validate_args=False. See docs/lost-samples.md."
)


def discrete_site(values: str) -> NotImplementedError:
    """The error about a sampler or an autoguide that got a discrete distribution."""
    return NotImplementedError(
        f"HMC, NUTS or an autoguide got a discrete site, whose values are {values}; expected a "
        "continuous one. Sum the site out; or relax the model, relax(model, temperature), whose "
        "posterior under NUTS is biased. See docs/how-to/nuts.md."
    )


def no_funsor(name: str, framework: str) -> ValueError:
    """The error about a distribution that funsor can't represent."""
    expected = "OneHotCategorical or Bernoulli" if framework == "pyro" else "Bernoulli"
    return ValueError(
        f"funsor got a {name}, of which it would keep the parameters alone: neither the relaxed "
        "sample behind its values nor an estimator's gradient; expected "
        f"{expected} without an estimator. Use the inference of {framework}.infer, not of "
        f"{framework}.contrib.funsor, or .discrete. See docs/machinery.md."
    )


def no_density() -> ValueError:
    """The error about a sampler or an autoguide that got a distribution with an estimator."""
    return ValueError(
        "HMC, NUTS or an autoguide got a site of a discrete distribution with a pathwise "
        "estimator; expected a continuous distribution, since the estimator's gradient is that of "
        "no density. Drop the estimator, and let the framework enumerate the site, or block it; or "
        "relax the model, relax(model, temperature), whose posterior under NUTS is biased. "
        "See docs/how-to/nuts.md."
    )


def no_funsor_enumeration() -> ModuleNotFoundError:
    """The error about a missing funsor, which NumPyro's enumeration needs."""
    return ModuleNotFoundError(
        "exact_evidence needs funsor, by which NumPyro enumerates and which is not installed. "
        "Install the extra: pip install 'relaxed-dists[enumeration]'",
        name="funsor",
    )


def no_integers(name: str) -> NotImplementedError:
    """The error about NumPyro's enumeration of values that are not integers."""
    return NotImplementedError(
        f"NumPyro's inference (NUTS, TraceEnum_ELBO, scan, DiscreteHMCGibbs, MixedHMC) asked for "
        f"the support of a {name} (expand=False), and would give it the numbers 0, 1, 2 and so on; "
        "expected a distribution of such numbers. Draw k from Categorical and write "
        "jax.nn.one_hot(k, K). For the values call enumerate_support(); for the evidence "
        "exact_evidence, without scan. relax(model, temperature) makes NUTS run, but biased: "
        "docs/how-to/nuts.md. See docs/machinery.md."
    )


UNCOUNTED = (
    "To draw from it where no density is needed, add .mask(False): "
    'sample("z", distribution.mask(False)), in the model and in the guide, counts as 0 in an ELBO'
)


def mixed(name: str, model: str, guide: str, who: str = "AnnealedSVI") -> ValueError:
    """The error about a site with a mass in the model and a density in the guide, or vice versa."""
    both = model + guide
    got = f"got the site '{name}', which the model draws from {model} and the guide from {guide}"
    expected = "expected two relaxed distributions or two discrete ones"
    if "Subset" in both or "Permutation" in both:
        hard = "Subset" if "Subset" in both else "Permutation"
        exact = f"{hard} in both, whose log_prob is exact; or " if hard == "Subset" else ""
        return ValueError(
            f"AnnealedSVI {got}; {expected}. Write {exact}Relaxed{hard}(...).mask(False) in both, "
            f"which counts as 0. To go on with the mixture, name the site: allow_mixed=['{name}']. "
            "See docs/pairings.md."
        )
    binary = "Bernoulli" in both
    relaxed = "RelaxedBernoulli" if binary else "RelaxedOneHotCategorical"
    hard = "Bernoulli" if binary else "OneHotCategorical"
    return ValueError(
        f"{who} {got}; {expected}, since a density and a mass make no bound. Write one of three: "
        f"{relaxed} in both; {hard} in both, with an estimator in the guide, {hard}(..., "
        "estimator=GumbelSoftmax(temperature)); or relax(model, temperature), whose site is "
        f"'{name.removesuffix('_relaxed')}_relaxed', with a guide of it. To go on with the "
        f"mixture, name the site: AnnealedSVI(..., allow_mixed=['{name}']). See docs/pairings.md."
    )
