import pytest

from equiforce.models.allegro_config import AllegroConfig


@pytest.mark.parametrize("cutoff", [9.0, 0.0])
def test_pair_cutoffs_lie_between_zero_and_the_cutoff(cutoff):
    message = rf"has {cutoff} Å for H-O: give a length above 0 and at most model\.cutoff=3\.5"
    with pytest.raises(ValueError, match=message):
        AllegroConfig(cutoff=3.5, pair_cutoffs={"H-O": cutoff})


def test_pair_cutoffs_may_equal_the_cutoff():
    assert AllegroConfig(cutoff=3.5, pair_cutoffs={"H-O": 3.5}).pair_cutoffs == {"H-O": 3.5}
