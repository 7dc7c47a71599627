from equiforce.errors import InputError


def test_is_a_value_error():
    """So that Python code can catch it without knowing equiforce."""
    assert issubclass(InputError, ValueError)
