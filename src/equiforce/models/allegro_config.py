"""The options of Allegro and its presets."""

from dataclasses import dataclass
from typing import Any, Literal

from equiforce.models.base import HIGHEST_DEGREE, MOST_CHANNELS, MOST_KNOTS, ModelConfig
from equiforce.options import option

# the presets were chosen on several data sets (docs/accuracy.md)
SMALL: dict[str, Any] = {"scalar_channels": 32, "latent_width": 32, "tensor_channels": 16}
ACCURATE: dict[str, Any] = {"l_max": 3, "tensor_channels": 64}


@dataclass(frozen=True, kw_only=True)
class AllegroConfig(ModelConfig):
    """The shape of an Allegro network."""

    cutoff: float = option(
        5.0, "an energy depends on nothing beyond it, for any number of layers", unit="Å", gt=0, le=50
    )
    pair_cutoffs: dict[str, float] | None = option(
        None,
        "shorter cutoffs of ordered pairs, centre first, as in {H-O: 3.0, O-H: 3.0}; fewer pairs take less time",
        unit="Å",
        example="{H-O: 3.0, O-H: 3.0}",
    )
    n_layers: int = option(
        2, "number of layers; nequip-allegro's default; each correlates one more neighbour with an edge", ge=1, le=32
    )
    l_max: int = option(
        2,
        "highest degree of the tensors; 1 is quick, 3 gains little for molecules; 0 ignores angles",
        ge=0,
        le=HIGHEST_DEGREE,
    )
    parity: bool = option(
        False,
        "true: tensors of both parities, if the energy can depend on them",
        only_if=("model.l_max is at least 1 and model.n_layers at least 3", lambda m: m.l_max >= 1 and m.n_layers >= 3),
    )
    scalar_channels: int = option(64, "scalars of each edge; nequip-allegro's default", ge=1, le=MOST_CHANNELS)
    tensor_channels: int = option(
        32, "tensors of each edge and irrep; nequip-allegro's default is 16", ge=1, le=MOST_CHANNELS
    )
    radial_basis: Literal["bessel", "spline"] = option(
        "bessel", "radial functions; bessel is the paper's, spline is a basis of local functions"
    )
    n_basis: int = option(
        8, "number of radial functions; the paper's, and a constant function is added to them", ge=3, le=256
    )
    bessel_trainable: bool = option(
        False,
        "whether the radial functions are trained; the paper's",
        only_if=("model.radial_basis is bessel", lambda m: m.radial_basis == "bessel"),
    )
    envelope_p: int = option(
        6,
        "how functions go to zero at the cutoff; the paper's, a smaller value makes distant atoms count less",
        ge=2,
        le=100,
    )
    envelope_multiplies: Literal["result", "basis"] = option(
        "result",
        "what the envelope multiplies: the result of the two-body network as in the paper, or its radial basis as in "
        "nequip-allegro",
    )
    radial_depth: int = option(2, "hidden layers of the two-body network; the paper has 3", ge=1, le=16)
    radial_width: int = option(
        64,
        "width of the two-body network; the paper's grows from 128 to 1024; functions of one number need less",
        ge=1,
        le=MOST_CHANNELS,
    )
    radial_knots: int | None = option(
        64,
        "number of knots of the splines that replace the two-body network, for each ordered pair of species; null "
        "evaluates the network on every edge, for very many species",
        ge=8,
        le=MOST_KNOTS,
    )
    latent_depth: int = option(1, "hidden layers of the scalars' networks; nequip-allegro's default", ge=0, le=16)
    latent_width: int = option(
        64,
        "width of the scalars' networks; the default of scalar_channels",
        ge=1,
        le=MOST_CHANNELS,
        only_if=("model.latent_depth is at least 1", lambda m: m.latent_depth > 0),
    )
    channel_mixing: bool = option(
        False, "true as in the paper, at twice the cost; false: each product sums its paths with learned weights"
    )
    residual: bool = option(
        False, "true as in the paper: scalars of all layers are added; false: a layer reads those of all earlier layers"
    )
    readout_depth: int = option(1, "hidden layers of the read-out; the paper's", ge=0, le=16)
    readout_width: int = option(
        32,
        "width of the read-out; nequip-allegro's default",
        ge=1,
        le=MOST_CHANNELS,
        only_if=("model.readout_depth is at least 1", lambda m: m.readout_depth > 0),
    )
    mean_neighbors: float | None = option(
        None, "sums over edges are divided by its square root; null: measured on the training data", gt=0, le=1e6
    )

    def __str__(self) -> str:
        channels = f"{self.scalar_channels} scalar and {self.tensor_channels} tensor channels"
        return f"{self.n_layers} layers, l_max {self.l_max}, {channels}, parity {str(self.parity).lower()}"
