"""The one kind of error that a user's input can cause."""


class InputError(ValueError):
    """What is wrong, where (file, frame, atom, key), and how to mend it: one sentence, shown without a traceback."""
