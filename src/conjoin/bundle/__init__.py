"""Bundles: a member as a folder of JSON, arrays and ONNX graphs. The format is docs/format/bundle-1.md."""

from __future__ import annotations

from conjoin.bundle.parts import PARTS
from conjoin.bundle.read import inspect, load
from conjoin.bundle.write import export, save

__all__ = ["PARTS", "export", "inspect", "load", "save"]
