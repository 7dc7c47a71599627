import pytest

from equiforce.models.nequip_config import NequIPConfig


def test_channels_of_each_degree():
    assert NequIPConfig(l_max=2, channels=8).channels_of_degree == (8, 8, 8)
    assert NequIPConfig(l_max=2, channels=[8, 4, 2]).channels_of_degree == (8, 4, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l_max": 2, "channels": [8, 4]}, "lists 2 numbers, but l_max=2 has 3 degrees"),
        ({"n_layers": 1, "l_max": 1}, "changes nothing because model.n_layers=1"),
        ({"channels": 0}, "at least one scalar channel"),
        ({"l_max": 1, "channels": [4, -1]}, "no number below 0"),
        ({"l_max": 1, "channels": [4, 0]}, "has scalars only"),
    ],
)
def test_shapes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        NequIPConfig(**options)
