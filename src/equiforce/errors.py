"""The errors that are shown to the user as one sentence."""


class InputError(ValueError):
    """A wrong input: one sentence says what is wrong, where (file, frame, atom, key), and how to correct it."""


class UnstableError(InputError):
    """A simulation that went wrong: atoms fly apart or collapse, or the forces are not finite."""


class MissingPackageError(InputError):
    """A request that needs a package that is not installed; the sentence says how to install it."""


class DivergedError(ArithmeticError):
    """A training run whose loss is no longer finite: one sentence says when, and which options to lower.

    It is not an :class:`InputError` because the input is not wrong: the same options may work with another seed.
    """
