"""The Pareto plot is a file that needs no network."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from conjoin.errors import FileError, InputError
from conjoin.report import plots

ROWS = [
    {"name": "cheap", "cpu_seconds_per_row": 1e-6, "bytes": 100, "loss": 0.5},
    {"name": "good", "cpu_seconds_per_row": 1e-4, "bytes": 90000, "loss": 0.3},
    {"name": "beaten", "cpu_seconds_per_row": 2e-4, "bytes": 95000, "loss": 0.4},
    {"name": "unknown", "cpu_seconds_per_row": None, "bytes": None, "loss": 0.1},
]


def test_a_document_says_what_is_on_the_front(tmp_path):
    pytest.importorskip("altair")
    plots.pareto(ROWS, tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    values = [v["values"] for v in json.loads(text)["datasets"].values()] if "datasets" in text else None
    points = values or json.loads(text)["data"]["values"]
    assert {p["name"]: p["front"] for p in points} == {
        "cheap": "on the front",
        "good": "on the front",
        "beaten": "beaten",
    }


@pytest.mark.parametrize("cost", ["cpu_seconds_per_row", "bytes"])
def test_a_picture(tmp_path, cost):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    plots.pareto(ROWS, tmp_path / "p.svg", cost=cost)
    picture = ET.fromstring((tmp_path / "p.svg").read_text())
    assert {"cheap", "good", "beaten"} <= {t.text for t in picture.iter() if t.tag.endswith("text")}
    assert [p.name for p in tmp_path.iterdir()] == ["p.svg"]


def test_a_page_loads_nothing_from_the_network(tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    plots.pareto(ROWS, tmp_path / "p.html")
    assert 'src="http' not in (tmp_path / "p.html").read_text()


def test_what_cannot_be_plotted(tmp_path):
    with pytest.raises(FileError, match=r"\.svg"):
        plots.pareto(ROWS, tmp_path / "p.gif")
    with pytest.raises(InputError, match="nothing to plot"):
        plots.pareto(ROWS[3:], tmp_path / "p.svg")
