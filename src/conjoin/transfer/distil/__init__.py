"""Distilling: what a member knows becomes a smaller member.

tables.py: `distil`, any member teaches any learner of tables. asking.py, augment.py, targets.py, students.py
are its steps, report.py what came of it. losses.py, contrast.py, modules.py: torch modules. static.py: static
tables of embedding models.
"""

from __future__ import annotations

from conjoin.transfer.distil.augment import AUGMENTERS
from conjoin.transfer.distil.features import Feature
from conjoin.transfer.distil.modules import DistilledModule, distil_module
from conjoin.transfer.distil.report import Gap, Report, Standing
from conjoin.transfer.distil.static import static_embeddings
from conjoin.transfer.distil.students import STUDENTS
from conjoin.transfer.distil.tables import Distilled, distil

__all__ = [
    "AUGMENTERS",
    "STUDENTS",
    "Distilled",
    "DistilledModule",
    "Feature",
    "Gap",
    "Report",
    "Standing",
    "distil",
    "distil_module",
    "static_embeddings",
]
