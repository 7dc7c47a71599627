"""The options of a training that starts from a model."""

from dataclasses import dataclass

from equiforce.models.base import GROUPS
from equiforce.options import option

# what replaces the defaults of a training from random weights (docs/fine-tuning.md)
DEFAULTS = {"optimizer.learning_rate": 0.005}
STARTED = ("start.model is given", lambda start: start.model is not None)
REPLAYED = ("start.replay is given", lambda start: bool(start.replay))


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The model from which training starts, what it must not forget, and what does not change."""

    model: str | None = option(
        None,
        "a model file or run folder: its network is trained further (docs/fine-tuning.md); null: weights are random",
    )
    replay: list[str] = option(
        reason="files of structures that the model must not forget; it labels those that have no labels itself, and a "
        "tenth is held out to measure what is forgotten",
        factory=list,
        only_if=STARTED,
    )
    replay_share: float = option(
        0.25,
        "the mean share of replayed structures in a batch; a higher share forgets less and learns more slowly",
        gt=0,
        lt=1,
        only_if=REPLAYED,
    )
    freeze: list[str] = option(
        reason=f"groups of weights that do not change: {', '.join(GROUPS)}; by default all are trained",
        factory=list,
        only_if=STARTED,
    )
    from_scratch: bool = option(
        False,
        "true: afterwards trains the same network from random weights for the same time, and compares both",
        only_if=STARTED,
    )
