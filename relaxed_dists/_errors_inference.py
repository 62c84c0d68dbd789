"""The errors of inference, the same text in both backends: what was got, expected, and to do."""


def no_moments(name: str) -> NotImplementedError:
    """Moments of infinite values."""
    return NotImplementedError(
        f"{name} has no mean and no variance, since its values are infinite; expected a law of "
        "finite ones. Use the discrete law of the site that the model computes from it."
    )


def no_twin(name: str) -> ValueError:
    """A site whose law is a transformed relaxed one."""
    return ValueError(
        f"discretize got the site '{name}', whose law is made from a relaxed one by a transform; "
        "expected a relaxed law itself, or an estimated one. Draw from the relaxed law, and apply "
        "the transform to its value in the model."
    )
