import pytest

from equiforce.errors import InputError
from equiforce.foundation.network_options import checked
from equiforce.models.nequip_config import NequIPConfig


def test_options_are_checked_before_they_are_made():
    assert checked(NequIPConfig, {"l_max": 1, "channels": [4, 2]}).channels_of_degree == (4, 2)
    for values in ({"l_max": 99}, {"l_max": 2, "channels": [4, 2]}, {"cutoff": -1.0}):
        with pytest.raises(InputError, match="the options do not fit together: "):
            checked(NequIPConfig, values)
