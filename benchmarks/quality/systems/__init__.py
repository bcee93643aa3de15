"""The systems that are compared. The table is literal; the modules are imported in the workers only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One way to make and use a model: which module does it, in which environment, with which settings."""

    name: str
    module: str
    environment: str
    limit: float | None = None
    preset: str | None = None

    @property
    def title(self) -> str:
        """How the tables call it; conjoin runs under two limits, so its limit is part of the name."""
        if self.preset:
            return f"AutoGluon {self.preset.removesuffix('_quality')}"
        return (
            f"conjoin {self.limit:g} s"
            if self.is_ours
            else {"single": "LightGBM"}.get(self.module, self.module)
        )

    @property
    def is_ours(self) -> bool:
        """Whether this is conjoin, and not a peer."""
        return self.module == "ours"


def systems(limit: float = 60.0) -> dict[str, System]:
    """Return every system by name; `limit` is the time limit of those that know one."""
    listed = (
        System("conjoin", "ours", "conjoin", limit),
        System("autogluon_medium", "ag", "autogluon", limit, "medium_quality"),
        System("stacking", "stacking", "sklearn"),
        System("conjoin_short", "ours", "conjoin", limit / 6),
        System("autogluon_good", "ag", "autogluon", limit, "good_quality"),
        System("lightgbm", "single", "sklearn"),
    )
    return {one.name: one for one in listed}
