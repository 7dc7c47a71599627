"""Findings of the checks of data: what is surely wrong is an error, and what is doubtful is a note."""

from collections.abc import Iterable
from dataclasses import dataclass

from equiforce.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong with data, where, and how to correct it, in one sentence."""

    sentence: str
    sure: bool  # whether to train on the data would surely be a mistake


def settle(findings: Iterable[Finding], refuse: bool) -> list[str]:
    """Return findings as notes for the user, the sure ones first.

    Args:
        findings: the findings.
        refuse: whether a sure finding is an error.

    Raises:
        InputError: a finding is sure, and ``refuse`` is True.
    """
    ordered = sorted(findings, key=lambda finding: not finding.sure)
    if refuse and ordered and ordered[0].sure:
        raise InputError(f"{ordered[0].sentence} (--set data.check=false trains on the data as they are)")
    return [finding.sentence for finding in ordered]
