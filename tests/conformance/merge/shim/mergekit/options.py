"""Options of a run; conjoin's defaults do for what the tests say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MergeOptions:
    allow_crimes: bool = False
    unsafe_truncate_embeddings: bool = False
    copy_tokenizer: bool = True
    quiet: bool = False
