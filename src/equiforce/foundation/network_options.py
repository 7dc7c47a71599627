"""Makes the options of a network here from those that an importer found in a file."""

from collections.abc import Mapping
from typing import Any, TypeVar

from equiforce.errors import InputError
from equiforce.models import ModelConfig
from equiforce.options import check_values

Config = TypeVar("Config", bound=ModelConfig)


def checked(config_class: type[Config], values: Mapping[str, Any]) -> Config:
    """Make the options of a network after their kinds and bounds have been checked.

    Args:
        config_class: the options of the kind of network.
        values: the options by name.

    Raises:
        InputError: a value is out of bounds, or options contradict one another.
    """
    try:
        check_values(config_class, values)
        return config_class(**values)
    except ValueError as error:
        raise InputError(f"the options do not fit together: {error}") from None
