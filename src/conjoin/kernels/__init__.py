"""Compiled loops on plain arrays, a file for each kind of output. They know arrays only."""
