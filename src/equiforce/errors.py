"""The errors that a user sees as one sentence."""


class InputError(ValueError):
    """What is wrong, where (file, frame, atom, key), and how to mend it: one sentence, shown without a traceback."""


class MissingPackageError(InputError):
    """What is asked for needs a package that is not installed; the sentence says how to install it."""


class DivergedError(ArithmeticError):
    """A training whose loss is no longer finite: one sentence that says when, and which options to lower.

    It is no :class:`InputError`, for nothing is wrong with the input: the same options may do with another seed.
    """
