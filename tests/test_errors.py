from equiforce.errors import DivergedError, InputError, UnstableError


def test_is_a_value_error():
    """So that Python code can catch it without knowing equiforce."""
    assert issubclass(InputError, ValueError)


def test_divergence_is_no_mistake_in_the_input():
    """So that code which mends its input on an InputError does not take a training that failed for one."""
    assert not issubclass(DivergedError, InputError)
    assert not issubclass(DivergedError, ValueError)


def test_an_unstable_simulation_is_told_like_any_wrong_input():
    assert issubclass(UnstableError, InputError)
