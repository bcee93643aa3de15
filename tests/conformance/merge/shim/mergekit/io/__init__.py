"""Reading of what a merge wrote, by safetensors' own reader."""

from mergekit.io.lazy_tensor_loader import LazyTensorLoader

__all__ = ["LazyTensorLoader"]
