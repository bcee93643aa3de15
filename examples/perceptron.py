"""Two models through a multilayer perceptron: a network reads what both say and answers."""

import conjoin
from two_models import members, show, tune, y_tune

network = conjoin.Ensemble(members, conjoin.fusion.fit_network_fuser).fit(tune, y_tune, seed=0)
for name, member in members.items():
    show(name, member)
show("multilayer perceptron", network)
