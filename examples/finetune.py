"""A network that knows 0 to 4 learns all ten digits from six pictures of each, beside one from nothing."""

import numpy as np
import torch
from sklearn.datasets import load_digits

import conjoin
from conjoin.outputs import Labels


def network(classes):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 24, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    layers += [torch.nn.Conv2d(24, 48, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten()]
    return torch.nn.Sequential(
        *layers, torch.nn.Linear(768, 64), torch.nn.ReLU(), torch.nn.Linear(64, classes)
    )


pictures, digits = load_digits(return_X_y=True)
pictures = (pictures / 16).reshape(-1, 1, 8, 8)
names = Labels.of(digits)
few = np.concatenate([np.flatnonzero(digits == d)[:6] for d in range(10)])
much = np.setdiff1d(np.flatnonzero(digits < 5)[:400], few)
test = np.arange(900, len(digits))

source = conjoin.finetune(network(5), {"x": pictures[much]}, Labels.of(digits[much]))
start = conjoin.transplant(
    source.module, network(10), source_classes=source.classes, target_classes=names.classes
)
print(start)
for title, module in (("from nothing", network(10)), ("transferred", start.model)):
    done = conjoin.finetune(module, {"x": pictures[few]}, names.take(few), validation=0)
    answer = done.member.predict({"x": pictures[test]})
    print(f"{title:12}  accuracy {conjoin.scores.SCORES['accuracy'].value(answer, names.take(test)):.3f}")
