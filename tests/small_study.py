"""A learning curve of a few steps on water molecules, with labels of the effective-medium theory."""

from pathlib import Path
from typing import Any

import yaml

from equiforce.studies.learning_curve import LearningCurve, load_learning_curve
from tests.data_sets import TINY, molecules, write

VALUES: dict[str, Any] = {
    "pool": ["pool.xyz"],
    "test": ["test.xyz"],
    "validation": 3,
    "sizes": [2, 4],
    "seeds": [0, 1],
    "steps": [4, 6],
    "learning_rates": [0.01, 0.05],
    "scan_sizes": [2],
    "common": {f"model.{name}": value for name, value in TINY.items() if name != "l_max"} | {"training.batch_size": 2},
    "models": {"l=0": {"model.l_max": 0}, "l=1": {"model.l_max": 1}},
}
# changes that leave two runs of a moment
TINIEST = {"sizes": [2], "seeds": [0], "steps": 4, "learning_rates": [0.05], "scan_sizes": None, "doubled": False}
N_RUNS = 2 * (2 * 2 + 1 + 1)  # models x (sizes x seeds, one more learning rate, twice the budget)


def write_study(folder: Path, **changes: Any) -> Path:
    """The YAML file of the study, its data beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "pool.xyz").exists():
        write(folder / "pool.xyz", molecules(12))
        write(folder / "test.xyz", molecules(4, seed=1))
    values = {name: value for name, value in (VALUES | changes).items() if value is not None}
    file = folder / "water.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    return file


def study(folder: Path, **changes: Any) -> LearningCurve:
    """The study itself."""
    return load_learning_curve(write_study(folder, **changes), folder)
