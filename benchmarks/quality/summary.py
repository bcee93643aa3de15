"""The figures that the project asks of itself, each beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from . import markdown
from .outcomes import Outcome

Grid = Mapping[str, Mapping[str, Outcome]]

WINS_AGAINST_MEDIUM = 8
GAIN_AGAINST_MEDIUM = 0.02
WINS_AGAINST_STACKING = 9
BYTES_SHARE = 0.1
MOST_BYTES = 20e6
ROW_MILLISECONDS = 1.0
ROW_TIMES_LESS = 50.0


@dataclass(frozen=True)
class Figure:
    """One line of the summary; `holds` is `None` where nothing could be measured."""

    what: str
    asked: str
    measured: str
    holds: bool | None


def summary(grid: Grid) -> str:
    """Write the summary as a table."""
    makers: tuple[Callable[[Grid], Iterator[Figure]], ...] = (
        _fused,
        _medium,
        _peers,
        _limits,
        _sizes,
        _costs,
    )
    figures = [figure for make in makers for figure in make(grid)]
    verdict = {True: "yes", False: "no", None: "-"}
    rows = [[one.what, one.asked, one.measured, verdict[one.holds]] for one in figures]
    return markdown.table(["what", "asked", "measured", "holds"], rows, left=4)


def _pairs(grid: Grid, peer: str, ours: str = "conjoin") -> list[tuple[Outcome, Outcome]]:
    """Return both outcomes of every table on which neither failed."""
    both = [(found.get(ours), found.get(peer)) for found in grid.values()]
    return [(a, b) for a, b in both if a and b and not a.failed and not b.failed]


def _title(grid: Grid, system: str) -> str:
    """Return how the tables call a system; its bare name while it has no run."""
    return next((found[system].run.system.title for found in grid.values() if system in found), system)


def _fused(grid: Grid) -> Iterator[Figure]:
    for system in ("conjoin", "conjoin_short"):
        ours = [found[system] for found in grid.values() if system in found and found[system].members]
        differences = [(one, one.against_member(best)) for one in ours if (best := one.best_member())]
        worse = [one.run.table.name for one, found in differences if found.value > found.error]
        measured = f"within on {len(differences) - len(worse)} of {len(differences)}"
        if worse:
            measured += f"; not on {', '.join(worse)}"
        yield Figure(
            f"fused against best single member ({_title(grid, system)})",
            "never worse by more than 1 standard error",
            measured,
            not worse if differences else None,
        )


def _wins(pairs: list[tuple[Outcome, Outcome]]) -> tuple[int, int, float]:
    """Return wins, wins by more than one standard error, and the mean relative gain."""
    wins = sum(a.loss < b.loss for a, b in pairs)
    clear = sum((found := a.against(b)).value < -found.error for a, b in pairs)
    gain = statistics.mean((b.loss - a.loss) / b.loss for a, b in pairs) if pairs else float("nan")
    return wins, clear, gain


def _medium(grid: Grid) -> Iterator[Figure]:
    pairs = _pairs(grid, "autogluon_medium")
    wins, clear, gain = _wins(pairs)
    yield Figure(
        "better than AutoGluon medium",
        f"at least {WINS_AGAINST_MEDIUM} of 12",
        f"{wins} of {len(pairs)} ({clear} by more than 1 SE)",
        wins >= WINS_AGAINST_MEDIUM if pairs else None,
    )
    yield Figure(
        "mean relative gain over AutoGluon medium",
        f"at least {GAIN_AGAINST_MEDIUM:.0%}",
        markdown.percent(gain),
        gain >= GAIN_AGAINST_MEDIUM if pairs else None,
    )


def _peers(grid: Grid) -> Iterator[Figure]:
    for peer in ("stacking", "autogluon_good", "lightgbm"):
        pairs = _pairs(grid, peer)
        wins, clear, gain = _wins(pairs)
        asked = peer == "stacking"
        yield Figure(
            f"better than {_title(grid, peer)}",
            f"at least {WINS_AGAINST_STACKING} of 12" if asked else "(shown)",
            f"{wins} of {len(pairs)} ({clear} by more than 1 SE), mean gain {markdown.percent(gain)}",
            wins >= WINS_AGAINST_STACKING if asked and pairs else None,
        )


def _limits(grid: Grid) -> Iterator[Figure]:
    for system in ("conjoin", "conjoin_short", "autogluon_medium", "autogluon_good"):
        runs = [found[system] for found in grid.values() if system in found]
        if not runs:
            continue
        limit = runs[0].run.system.limit or 0.0
        allowed = 1.1 * limit + 5.0
        kept = [one for one in runs if not one.failed and one.record["fit_wall"] <= allowed]
        longest = max((one.record.get("fit_wall", 0.0) for one in runs), default=0.0)
        ours = runs[0].run.system.is_ours
        yield Figure(
            f"{runs[0].run.system.title}: time limit kept, always a bundle",
            f"at most {allowed:g} s on every table" if ours else "(shown)",
            f"{len(kept)} of {len(runs)}, longest {longest:.1f} s",
            len(kept) == len(runs) if ours else None,
        )


def _ratios(grid: Grid, key: str, peer: str = "autogluon_medium") -> list[float]:
    """Return ours divided by the peer's, for every table."""
    return [a.record[key] / b.record[key] for a, b in _pairs(grid, peer)]


def _sizes(grid: Grid) -> Iterator[Figure]:
    for peer in ("autogluon_medium", "autogluon_good"):
        ratios = _ratios(grid, "bundle_bytes", peer)
        asked = peer == "autogluon_medium"
        middle = statistics.median(ratios) if ratios else float("nan")
        yield Figure(
            f"bundle bytes / {_title(grid, peer)} clone, median",
            f"at most {BYTES_SHARE:g}" if asked else "(shown)",
            markdown.number(middle, 3),
            middle <= BYTES_SHARE if asked and ratios else None,
        )
    held = [
        (found["conjoin"].record["bundle_bytes"], name)
        for name, found in grid.items()
        if "conjoin" in found and not found["conjoin"].failed
    ]
    largest, where = max(held, default=(0.0, ""))
    yield Figure(
        "largest bundle",
        f"at most {MOST_BYTES / 1e6:g} MB",
        f"{markdown.size(largest)} ({where})" if held else "-",
        largest <= MOST_BYTES if held else None,
    )


def _costs(grid: Grid) -> Iterator[Figure]:
    done = [found["conjoin"] for found in grid.values() if "conjoin" in found and not found["conjoin"].failed]
    forms = {
        "row_cpu_ms": "one row from a data frame",
        "row_cpu_ms_mapping": "one row from a mapping of arrays",
    }
    for key, title in forms.items():
        times = [one.record[key] for one in done if key in one.record]
        slowest = max(times, default=float("nan"))
        yield Figure(
            f"{title}: median CPU",
            f"at most {ROW_MILLISECONDS:g} ms on every table",
            f"{min(times):.3f} to {slowest:.3f} ms" if times else "-",
            slowest <= ROW_MILLISECONDS if times else None,
        )
    for peer in ("autogluon_medium", "autogluon_good"):
        yield from _costs_against(grid, peer)


def _costs_against(grid: Grid, peer: str) -> Iterator[Figure]:
    asked = peer == "autogluon_medium"
    less = [1.0 / ratio for ratio in _ratios(grid, "row_cpu_ms", peer)]
    measured = f"median {statistics.median(less):.0f}, least {min(less):.0f}" if less else "-"
    yield Figure(
        f"one row: times less CPU than {_title(grid, peer)} clone",
        f"at least {ROW_TIMES_LESS:g}" if asked else "(shown)",
        measured,
        min(less) >= ROW_TIMES_LESS if asked and less else None,
    )
    ratios = _ratios(grid, "batch_cpu_us", peer)
    slower = sum(ratio > 1.0 for ratio in ratios)
    yield Figure(
        f"batch CPU per row / {_title(grid, peer)} clone",
        "at most 1 on every table" if asked else "(shown)",
        f"median {statistics.median(ratios):.2f}, above 1 on {slower} of {len(ratios)}" if ratios else "-",
        slower == 0 if asked and ratios else None,
    )
