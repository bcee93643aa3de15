"""Decoders over references."""
