"""Model files that several tests read."""

import pytest

from equiforce.model_file import save
from tests.systems import ethanol, potential_of

ABOUT = {
    "training": {"steps": 10, "best_step": 5, "seconds": 1.5},
    "test_errors": {"units": {"forces": "meV/Å"}, "total": {"forces": {"mae": 12.5, "rmse": 20.0}}},
    "made": {"date": "2026-01-01"},
}


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.eqf"
    save(path, potential_of(dtype="float32", l_max=1, n_layers=2, channels=4), [ethanol()], ABOUT)
    return path
