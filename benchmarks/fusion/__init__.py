"""Fusion of every kind of output: speed beside named peers, and quality on real outputs."""
