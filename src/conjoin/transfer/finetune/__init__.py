"""Fine-tuning: a trained torch module learns a new task. Heads, frozen layers, rates, LoRA."""

from __future__ import annotations

from conjoin.transfer.finetune.adapters import Adapter, Lora
from conjoin.transfer.finetune.heads import Head
from conjoin.transfer.finetune.layers import Use
from conjoin.transfer.finetune.tune import FineTuned, finetune

__all__ = ["Adapter", "FineTuned", "Head", "Lora", "Use", "finetune"]
