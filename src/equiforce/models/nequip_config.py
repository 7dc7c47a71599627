"""The options of NequIP and its presets."""

from dataclasses import dataclass
from typing import Any

from equiforce.models.base import HIGHEST_DEGREE, MOST_CHANNELS, MOST_KNOTS, ModelConfig
from equiforce.options import option

MIRROR = (
    "THE ENERGY OF A MIRROR IMAGE IS ANOTHER ONE, which is wrong by nature's laws, because the features of this model "
    "know rotations but not reflections"
)
# the presets were chosen on several data sets (docs/accuracy.md)
SMALL: dict[str, Any] = {"l_max": 1, "channels": 32, "n_layers": 3}
ACCURATE: dict[str, Any] = {"channels": 64, "n_layers": 5}


@dataclass(frozen=True, kw_only=True)
class NequIPConfig(ModelConfig):
    """The shape of a NequIP network."""

    cutoff: float = option(
        5.0,
        "atoms closer than this are neighbours; as in most equivariant models, the paper uses 4 for molecules",
        unit="Å",
        gt=0,
        le=50,
    )
    pair_cutoffs: dict[str, float] | None = option(
        None,
        "shorter cutoffs of ordered pairs, centre first, as in {H-O: 3.0, O-H: 3.0}; fewer pairs take less time",
        unit="Å",
        example="{H-O: 3.0, O-H: 3.0}",
    )
    n_layers: int = option(
        4,
        "number of layers; nequip's default, the paper has 5 or 6; an atom sees one cutoff further with each layer",
        ge=1,
        le=32,
    )
    l_max: int = option(
        2,
        "highest degree of the features; 3 is little better than 2 for molecules, says the paper; with 0 all "
        "are invariant",
        ge=0,
        le=HIGHEST_DEGREE,
    )
    parity: bool = option(
        False,
        "true: features of both parities, at twice the cost; nequip's authors often find no gain (not measured here)",
        only_if=(
            "model.l_max is at least 1, model.n_layers at least 4, model.invariant false and model.reflections true",
            lambda m: m.l_max >= 1 and m.n_layers >= 4 and not m.invariant and m.reflections,
        ),
    )
    reflections: bool = option(
        True,
        "false: features tell rotations from one another but not parities, as in SevenNet-0; the energy of a mirror "
        "image is then another one, which is wrong: only for models that others trained so",
        only_if=("model.l_max is at least 1", lambda model: model.l_max > 0),
    )
    invariant: bool = option(
        False,
        "true: layers pass on scalars only, among them the lengths of tensors, so angles still count; for comparisons",
        only_if=("model.l_max is at least 1", lambda model: model.l_max > 0),
    )
    channels: int | list[int] = option(
        32,
        "features of each degree; one number, or one for each degree 0..l_max; nequip's default, the paper uses "
        "64 for molecules",
    )
    embedding_channels: int | None = option(
        None, "features of the species embedding; null: as many as scalar channels", ge=1, le=MOST_CHANNELS
    )
    n_bessel: int = option(8, "number of radial functions; the paper's", ge=1, le=256)
    bessel_trainable: bool = option(
        False, "whether the radial functions are trained; nequip's default, the paper trains them"
    )
    envelope_p: int = option(
        6,
        "how functions go to zero at the cutoff; the paper's, a smaller value makes distant atoms count less",
        ge=2,
        le=100,
        only_if=("model.xplor_on is null", lambda model: model.xplor_on is None),
    )
    xplor_on: float | None = option(
        None,
        "functions go to zero from here to the cutoff, by XPLOR's polynomial as in SevenNet-0: forces have a kink at "
        "both; null: they fade from 0 on, without a kink",
        unit="Å",
        gt=0,
        le=50,
    )
    radial_depth: int = option(2, "hidden layers of the radial network; nequip's default, the paper has 3", ge=0, le=16)
    radial_width: int = option(
        64,
        "width of the radial network; the paper's",
        ge=1,
        le=MOST_CHANNELS,
        only_if=("model.radial_depth is at least 1", lambda model: model.radial_depth > 0),
    )
    radial_knots: int | None = option(
        64,
        "number of knots of the splines that replace the radial network; 32 knots lose no accuracy "
        "(docs/benchmarks.md); null evaluates the network on every edge, which is slow",
        ge=8,
        le=MOST_KNOTS,
    )
    self_connection: bool = option(
        True,
        "adds a linear map of the atom's own features, one for each species, to the messages",
        only_if=("model.n_layers is at least 2", lambda model: model.n_layers > 1),
    )
    first_self_connection: bool = option(
        False,
        "true as in the paper; the network's energies of isolated atoms are then subtracted",
        only_if=("model.self_connection is true", lambda model: model.self_connection),
    )
    species_linear_in: bool = option(
        False,
        "true: the linear map before the messages has weights for each species that sends; not together with "
        "model.scalar_constants",
    )
    shared_self_connection: bool = option(
        False,
        "true: the self-connection has one linear map for all species, as in SevenNet and Nequix",
        only_if=("model.self_connection is true", lambda model: model.self_connection),
    )
    layer_norm: bool = option(
        False,
        "true: each layer divides an atom's features by their root mean square before the gate, as Nequix does",
        only_if=("model.first_self_connection is true", lambda model: model.first_self_connection),
    )
    scalar_constants: bool = option(
        False,
        "true: the linear maps before and after each convolution add trained constants to the scalars, as SevenNet "
        "does to tell levels of theory apart",
        only_if=("model.first_self_connection is true", lambda model: model.first_self_connection),
    )
    residual: bool = option(False, "adds a layer's input to its output; off in the paper and in nequip")
    readout_depth: int = option(0, "hidden layers of the read-out; nequip's default", ge=0, le=16)
    readout_width: int = option(
        16,
        "width of the read-out; the paper's",
        ge=1,
        le=MOST_CHANNELS,
        only_if=("model.readout_depth is at least 1", lambda model: model.readout_depth > 0),
    )
    mean_neighbors: float | None = option(
        None, "messages are divided by its square root; null: measured on the training data", gt=0, le=1e6
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.channels, list) and len(self.channels) != self.l_max + 1:
            raise ValueError(
                f"model.channels lists {len(self.channels)} numbers, but l_max={self.l_max} has {self.l_max + 1} "
                "degrees: give one number for each degree, or a single one"
            )
        if self.n_layers == 1 and self.l_max > 0 and not self.invariant:
            raise ValueError(
                f"model.l_max={self.l_max} changes nothing because model.n_layers=1 has scalar output: "
                "set model.l_max=0 or model.n_layers=2"
            )
        if self.species_linear_in and self.scalar_constants:
            raise ValueError(
                "model.species_linear_in and model.scalar_constants cannot both be true: set one of them to false"
            )
        if self.xplor_on is not None and self.xplor_on >= self.cutoff:
            raise ValueError(
                f"model.xplor_on={self.xplor_on} Å is not below model.cutoff={self.cutoff} Å: give a shorter "
                "length, or null"
            )
        if max(self.channels_of_degree) > MOST_CHANNELS:
            raise ValueError(f"model.channels={self.channels} is too much: give at most {MOST_CHANNELS} of each degree")
        if min(self.channels_of_degree) < 0 or self.channels_of_degree[0] < 1:
            raise ValueError(
                f"model.channels={self.channels} is not valid: give at least one scalar channel, and no number below 0"
            )
        if self.l_max > 0 and not any(self.channels_of_degree[1:]):
            raise ValueError(
                f"model.channels={self.channels} has scalars only: set model.l_max=0, or give other degrees channels"
            )

    def __str__(self) -> str:
        parity = str(self.parity).lower()
        more = ", invariant" * self.invariant + ", NOT INVARIANT UNDER REFLECTIONS" * (not self.reflections)
        return f"{self.n_layers} layers, l_max {self.l_max}, {self.channels} channels, parity {parity}{more}"

    @property
    def cautions(self) -> tuple[str, ...]:
        """That the energy changes under reflections, if it does."""
        return () if self.reflections else (MIRROR,)

    @property
    def channels_of_degree(self) -> tuple[int, ...]:
        """The number of channels of each degree l = 0, 1, ..., l_max."""
        return tuple(self.channels) if isinstance(self.channels, list) else (self.channels,) * (self.l_max + 1)
