"""The published potentials that can be imported by name: where their files lie, and what must be told of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from equiforce.foundation.source import Source

NEQUIX = "Koker, Kotak, Smidt, Training a foundation model for materials on a budget (2025), arXiv 2508.16067"
PFT = "Koker, Kotak, Geiger, Smidt, PFT: phonon fine-tuning (2026), arXiv 2601.07742"
NEQUIX_URL = "https://github.com/atomicarchitects/nequix/tree/main/models"
MP, OMAT = "MPtrj (PBE and PBE+U)", "OMat24 (PBE and PBE+U)"
OAM = "OMat24, sAlex and MPtrj (PBE and PBE+U)"
PHONON = "and MDR phonons (PBE)"
SEVENNET = "Park, Kim, Hwang, Han, J. Chem. Theory Comput. 20, 4857 (2024), arXiv 2402.03789"
MULTI = "Kim, Kim, Kim, Park, Kim, Hwang, Han, J. Am. Chem. Soc. 147, 1042 (2025), arXiv 2409.07947"
SEVENNET_URL = "the package sevenn 0.13.0, which contains it (pip install sevenn==0.13.0)"
R2SCAN = "and Materials Project (r2SCAN)"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A potential that was published as a file."""

    program: str
    file: str  # its name
    folder: str  # where its program keeps it; within the installed program if it does not begin with ~
    url: str
    sha256: str
    licence: str
    data: str
    citation: str

    @property
    def place(self) -> Path:
        """The file where its program keeps it; it need not exist."""
        if self.folder.startswith("~"):
            return Path(self.folder).expanduser() / self.file
        found = find_spec(self.program)
        places = None if found is None else found.submodule_search_locations
        return Path(places[0] if places else self.program) / self.folder / self.file


def _nequix(file: str, sha256: str, data: str, citation: str) -> Published:
    return Published(
        program="nequix", file=file, folder="~/.cache/nequix/models", url=f"{NEQUIX_URL}/{file}", sha256=sha256,
        licence="MIT", data=data, citation=citation,
    )  # fmt: skip


def _sevennet(folder: str, file: str, sha256: str, data: str, citation: str) -> Published:
    return Published(
        program="sevenn", file=file, folder=f"pretrained_potentials/{folder}", url=SEVENNET_URL, sha256=sha256,
        licence="MIT (of the package that contains it)", data=data, citation=citation,
    )  # fmt: skip


PUBLISHED: Mapping[str, Published] = {
    "nequix-mp-1": _nequix(
        "nequix-mp-1.nqx", "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee", MP, NEQUIX
    ),
    "nequix-mp-1-pft": _nequix(
        "nequix-mp-1-pft.nqx",
        "a88aeaed71fd447572dc57af21d469207d7737b85a6dbb66f8c38156f175c5f1",
        f"{MP} {PHONON}",
        PFT,
    ),
    "nequix-mp-1-pft-nocotrain": _nequix(
        "nequix-mp-1-pft-nocotrain.nqx",
        "c191f7208e15f7caf8cc5c1202444652f301fed2f41d85f9a8080af3843ef308",
        f"{MP}, then MDR phonons (PBE) alone",
        PFT,
    ),
    "nequix-omat-1": _nequix(
        "nequix-omat-1.nqx", "2d0802ae7f5915cb488c44d25649d98404a103697e6500abb40f515e003a46a6", OMAT, PFT
    ),
    "nequix-oam-1": _nequix(
        "nequix-oam-1.nqx", "6a43475eaeb32a7a049f36c1306d78aa1e7a17e8af37aeda7901c8fec0ca845c", OAM, PFT
    ),
    "nequix-oam-1-pft": _nequix(
        "nequix-oam-1-pft.nqx",
        "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809",
        f"{OAM} {PHONON}",
        PFT,
    ),
    "sevennet-0": _sevennet(
        "SevenNet_0__11Jul2024",
        "checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
        MP,
        SEVENNET,
    ),
    "sevennet-l3i5": _sevennet(
        "SevenNet_l3i5",
        "checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
        MP,
        SEVENNET,
    ),
    "sevennet-mf-0": _sevennet(
        "SevenNet_MF_0",
        "checkpoint_sevennet_mf_0.pth",
        "81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd",
        f"{MP}, {R2SCAN}; --modal chooses PBE or R2SCAN",
        MULTI,
    ),
}
NOT_KNOWN = "not known to equiforce: ask who trained it"


def source_of(path: Path, sha256: str, program: str) -> Source:
    """The origin of a file: a published one is recognised by its checksum, whatever its name is.

    Args:
        path: the file.
        sha256: of its content.
        program: that made it.
    """
    for name, one in PUBLISHED.items():
        if one.sha256 == sha256:
            return Source(
                name=name, program=one.program, sha256=sha256, licence=one.licence, data=one.data, citation=one.citation
            )
    name = path.stem.removesuffix(".nequip")
    return Source(name=name, program=program, sha256=sha256, licence=NOT_KNOWN, data=NOT_KNOWN, citation=NOT_KNOWN)
