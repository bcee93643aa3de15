"""DESlib's names over conjoin, for DESlib's own integration tests: estimators with a pool of classifiers."""

import sys

from deslib import _adapter

_MODULES = (
    "des",
    "dcs",
    "static",
    "util",
    "util.faiss_knn_wrapper",
    *(f"des.{n}" for n in ("knora_e", "knora_u", "meta_des", "des_p", "des_knn", "knop", "des_mi")),
    *(f"dcs.{n}" for n in ("ola", "lca", "mla", "mcb", "rank", "a_priori", "a_posteriori")),
)
for _name in _MODULES:
    sys.modules[f"deslib.{_name}"] = _adapter
