"""The errors that a user's input can cause."""


class InputError(ValueError):
    """What is wrong, where (file, frame, atom, key), and how to mend it: one sentence, shown without a traceback."""


class MissingPackageError(InputError):
    """What is asked for needs a package that is not installed; the sentence says how to install it."""


class DivergedError(InputError):
    """A training whose loss became infinite: its options ask for smaller steps."""
