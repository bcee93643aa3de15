"""Two models averaged with the weights that are best on rows that neither of them has seen."""

import conjoin
from two_models import members, show, tune, y_tune

learned = conjoin.Ensemble(members, conjoin.fusion.fit_linear_pool).fit(tune, y_tune)
print(learned.fuser)
for name, member in members.items():
    show(name, member)
show("learned weights", learned)
