"""The tables of `RESULTS.md`, made from the records and stored answers of the finished runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import markdown
from .outcomes import Outcome, outcome
from .runs import Run
from .summary import summary
from .systems import System

PACKAGES = (
    "autogluon.tabular",
    "scikit-learn",
    "lightgbm",
    "catboost",
    "xgboost-cpu",
    "torch",
    "numpy",
    "pandas",
)

Grid = Mapping[str, Mapping[str, Outcome]]


def make(planned: Sequence[Run]) -> str:
    """Write the report on the runs of the plan that are done: table name -> system name -> outcome."""
    grid: dict[str, dict[str, Outcome]] = {}
    for run in planned:
        found = outcome(run)
        if found:
            grid.setdefault(run.table.name, {})[run.system.name] = found
    chosen = list(dict.fromkeys(run.system for run in planned))
    parts = [
        "# Quality on twelve real tables",
        _introduction(planned, grid),
        "## What is asked and what was measured",
        summary(grid),
        "## Loss on the test part",
        "Log-loss (natural) or RMSE; less is better.",
        _losses(grid, chosen),
        "## Difference to each peer",
        "conjoin's loss minus the peer's, plus or minus one standard error over the test rows (paired; delta "
        "method for RMSE). Negative: conjoin is better. In brackets the relative gain.",
        _differences(grid, chosen),
        "## Fused against the best single member",
        _members(grid),
        "## Other measures",
        _others(grid, chosen),
        "## Fit: wall seconds, CPU seconds, peak memory",
        "Wall and CPU seconds of the fit until the bundle is on disk, children included.",
        _fits(grid, chosen),
        "## Answering through the reloaded bundle",
        "Bytes on disk; CPU of one row (median of single-row calls); CPU per row with the test part as one "
        "batch. One thread for every system.",
        _answering(grid, chosen),
        "## Failures",
        _failures(grid),
        "## Conditions",
        _conditions(grid, chosen),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(planned: Sequence[Run], grid: Grid) -> str:
    limited = {run.system.title: run.system.limit for run in planned if run.system.preset}
    listed = "".join(f", {title} {limit:g} s" for title, limit in limited.items())
    versions: dict[str, str] = {}
    for row in grid.values():
        for one in row.values():
            versions |= {n: v for n, v in one.record.get("versions", {}).items() if n in PACKAGES}
    stated = ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions)
    return (
        "Made by `python -m benchmarks.quality` on a machine with 2 cores and no GPU; how, says `README.md`. "
        f"Every system fits on the same training rows with 2 threads. Time limits: as named for "
        f"conjoin{listed}. Stacking and LightGBM know no limit.\n\n"
        f"Packages: {stated}."
    )


def _per_table(
    grid: Grid, headers: Sequence[str], row: Callable[[str, Mapping[str, Outcome]], list[str]]
) -> str:
    return markdown.table(["table", *headers], [[name, *row(name, found)] for name, found in grid.items()])


def _losses(grid: Grid, chosen: Sequence[System]) -> str:
    def row(_: str, found: Mapping[str, Outcome]) -> list[str]:
        any_one = next(iter(found.values()))
        rows = next((one.record["test_rows"] for one in found.values() if not one.failed), 0)
        cells = [_loss(found.get(one.name)) for one in chosen]
        return [any_one.measure, f"{rows:,}", *cells]

    return _per_table(grid, ["measure", "test rows", *(one.title for one in chosen)], row)


def _loss(one: Outcome | None) -> str:
    if one is None:
        return "-"
    return "failed" if one.failed else markdown.number(one.loss, 5)


def _differences(grid: Grid, chosen: Sequence[System]) -> str:
    peers = [one for one in chosen if one.name != "conjoin"]

    def cell(ours: Outcome | None, theirs: Outcome | None) -> str:
        if ours is None or theirs is None or ours.failed or theirs.failed:
            return "-"
        found = ours.against(theirs)
        gain = markdown.percent(-found.value / theirs.loss)
        return f"{markdown.number(found.value, 3)} ± {markdown.number(found.error, 2)} ({gain})"

    def row(_: str, found: Mapping[str, Outcome]) -> list[str]:
        return [cell(found.get("conjoin"), found.get(peer.name)) for peer in peers]

    return _per_table(grid, [one.title for one in peers], row)


def _members(grid: Grid) -> str:
    rows = []
    for name, found in grid.items():
        for system in ("conjoin", "conjoin_short"):
            one = found.get(system)
            best = one.best_member() if one else None
            if one and best:
                rows.append([name, one.run.system.title, *_member_cells(one, best)])
    if not rows:
        return ""
    headers = [
        "table",
        "system",
        "fused",
        "members",
        "best single",
        "its loss",
        "difference",
        "least on the test part",
    ]
    note = (
        "The best single member is the one that the fit's own validation scores put first (marked * where no "
        "such scores are kept: then the best on the test part; after a † stands a member that validation put "
        "first and the ensemble did without: it is not in the bundle, so the best of the others is taken). "
        "The last column is the difference to the member with the least test loss, which nobody could have "
        "chosen."
    )
    return note + "\n\n" + markdown.table(headers, rows)


def _member_cells(one: Outcome, best: str) -> list[str]:
    lucky = one.luckiest_member() or best
    mark = "" if one.chosen_on_validation else " *"
    if dropped := one.dropped_best():
        mark += f" † {dropped}"
    cells = [markdown.number(one.loss, 5), str(len(one.members)), best + mark]
    cells.append(markdown.number(one.loss - one.against_member(best).value, 5))
    for name in (best, lucky):
        found = one.against_member(name)
        cells.append(f"{markdown.number(found.value, 3)} ± {markdown.number(found.error, 2)}")
    return cells


def _others(grid: Grid, chosen: Sequence[System]) -> str:
    rows = []
    for name, found in grid.items():
        measures = next((one.others for one in found.values() if not one.failed), {})
        for measure in measures:
            cells = [found[one.name].others.get(measure) if one.name in found else None for one in chosen]
            rows.append([name, measure, *(markdown.number(cell, 5) for cell in cells)])
    return markdown.table(["table", "measure", *(one.title for one in chosen)], rows)


def _of(one: Outcome | None, key: str) -> Any:
    return None if one is None else one.record.get(key)


def _fits(grid: Grid, chosen: Sequence[System]) -> str:
    def cell(one: Outcome | None) -> str:
        wall, cpu, peak = (_of(one, key) for key in ("fit_wall", "fit_cpu", "fit_peak_bytes"))
        if wall is None:
            return "failed" if one else "-"
        return f"{markdown.seconds(wall)} / {markdown.seconds(cpu)} / {peak / 1e9:.1f} GB"

    return _per_table(
        grid, [one.title for one in chosen], lambda _, found: [cell(found.get(one.name)) for one in chosen]
    )


def _answering(grid: Grid, chosen: Sequence[System]) -> str:
    def cell(one: Outcome | None) -> str:
        row, batch = _of(one, "row_cpu_ms"), _of(one, "batch_cpu_us")
        if row is None or batch is None:
            return "failed" if one else "-"
        held = markdown.size(_of(one, "bundle_bytes"))
        as_mapping = _of(one, "row_cpu_ms_mapping")
        also = f" ({markdown.number(as_mapping, 3)} as a mapping)" if as_mapping is not None else ""
        return f"{held} / {markdown.number(row, 3)} ms{also} / {markdown.number(batch, 3)} µs"

    return _per_table(
        grid, [one.title for one in chosen], lambda _, found: [cell(found.get(one.name)) for one in chosen]
    )


def _failures(grid: Grid) -> str:
    failed = [one for found in grid.values() for one in found.values() if one.failed]
    if not failed:
        return "None."
    lines = [f"- {one.run.table.name}, {one.run.system.title}: {one.failed}" for one in failed]
    note = "A peer's failure is neither our win nor our loss; a failure of ours is no win and no bundle."
    return f"{note}\n\n" + "\n".join(lines)


def _conditions(grid: Grid, chosen: Sequence[System]) -> str:
    rows = []
    for system in chosen:
        shares = sorted(
            one.record["fit_other_cores"]
            for found in grid.values()
            if (one := found.get(system.name)) and "fit_other_cores" in one.record
        )
        if shares:
            middle = shares[len(shares) // 2]
            rows.append([system.title, str(len(shares)), f"{middle:.2f}", f"{shares[-1]:.2f}"])
    note = "Cores that other processes of the machine used during the fits (of 2): near 0 on a quiet machine."
    return note + "\n\n" + markdown.table(["system", "runs", "median", "most"], rows)
