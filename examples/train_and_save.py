"""Train a portfolio on a table, save it, load it, export it as one ONNX graph."""

import tempfile
from pathlib import Path

import conjoin
from two_models import learn, show, test, y_learn

ensemble = conjoin.fit(learn.assign(diagnosis=y_learn), target="diagnosis", time_limit=8, seed=0)
with tempfile.TemporaryDirectory() as folder:
    conjoin.save(ensemble, Path(folder, "cancer.conjoin"))
    again = conjoin.load(Path(folder, "cancer.conjoin"))
    conjoin.export(again, Path(folder, "cancer.onnx"))
assert (again.predict(test).values == ensemble.predict(test).values).all()
show("trained and fused", again)
