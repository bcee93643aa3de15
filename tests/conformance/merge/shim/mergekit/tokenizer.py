"""What a recipe says of tokens."""

from dataclasses import dataclass

from mergekit.absent import absent

PermutedVocabulary = absent("PermutedVocabulary")


@dataclass
class TokenizerConfig:
    source: str = "union"
    tokens: dict | None = None
    pad_to_multiple_of: int | None = None
