"""Which tensors an answer must have: those that transformers makes for its config, on no device; for models
that transformers saves under other names, those of the first model.
"""

from dataclasses import dataclass
from pathlib import Path

from mergekit.io.lazy_tensor_loader import ShardedTensorIndex


@dataclass
class WeightInfo:
    name: str
    optional: bool = False
    aliases: tuple = ()


@dataclass
class Architecture:
    names: tuple

    def all_weights(self, config):
        return [WeightInfo(n) for n in self.names]


def arch_info_for_config(config):
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    return Architecture(tuple(n for n in model.state_dict() if n not in tied))


def get_architecture_info(config, options):
    folder = Path(config.models[0].model)
    return Architecture(tuple(ShardedTensorIndex.from_disk(folder).tensor_paths))
