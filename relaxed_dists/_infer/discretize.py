"""What both backends share of discretize."""


# The messages.


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


def temperature_matters() -> ValueError:
    """A discrete model or guide that depends on a temperature, and none given."""
    return ValueError(
        "A discrete model or guide was called without a temperature, and it draws or scores "
        "differently at different ones, though its relaxed sites are discrete; expected "
        "temperature=, or one that only the relaxed distributions and estimators take. Pass "
        "temperature=, such as the last of the schedule."
    )
