"""The names that crowd-kit's tests of labels import."""

from .classification import (
    GLAD,
    KOS,
    MACE,
    MMSR,
    DawidSkene,
    GoldMajorityVote,
    MajorityVote,
    OneCoinDawidSkene,
    Wawa,
    ZeroBasedSkill,
)
from .others import BinaryRelevance, BradleyTerry, NoisyBradleyTerry, SegmentationMajorityVote

__all__ = [
    "GLAD",
    "KOS",
    "MACE",
    "MMSR",
    "BinaryRelevance",
    "BradleyTerry",
    "DawidSkene",
    "GoldMajorityVote",
    "MajorityVote",
    "NoisyBradleyTerry",
    "OneCoinDawidSkene",
    "SegmentationMajorityVote",
    "Wawa",
    "ZeroBasedSkill",
]
