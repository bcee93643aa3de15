"""Tensors of a folder, by the reference reader of safetensors."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open


@dataclass
class ShardedTensorIndex:
    tensor_paths: dict

    @classmethod
    def from_disk(cls, base_path):
        found = {}
        for path in sorted(Path(base_path).glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                found |= dict.fromkeys(file.keys(), path)
        return cls(found)


@dataclass
class LazyTensorLoader:
    index: ShardedTensorIndex

    @classmethod
    def from_disk(cls, base_path, lazy_unpickle=False):
        return cls(ShardedTensorIndex.from_disk(base_path))

    def get_tensor(self, key):
        with safe_open(self.index.tensor_paths[key], "pt") as file:
            return file.get_tensor(key)
