"""Quality benchmark: conjoin beside AutoGluon, scikit-learn stacking and LightGBM on twelve real tables.

`python -m benchmarks.quality` makes one virtual environment per system, runs every system on every table in a
process of its own, writes a record as soon as a run is done, and prints the tables of `RESULTS.md`.
"""
