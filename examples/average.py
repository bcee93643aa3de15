"""Two models averaged with weights 0.5 and 0.5."""

import conjoin
from two_models import members, show

halves = conjoin.fusion.plain(conjoin.fusion.linear_pool, weights={"forest": 0.5, "logistic": 0.5})
average = conjoin.Ensemble(members, halves)
for name, member in members.items():
    show(name, member)
show("0.5 forest, 0.5 logistic", average)
