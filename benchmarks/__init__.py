"""Measurements against named peers, each with the table that it last produced."""
