"""What merging learns from data, on torch modules."""

import copy

import numpy as np
import pytest

import conjoin
from conjoin.errors import InputError

torch = pytest.importorskip("torch")
nn = torch.nn

from conjoin.transfer.merge.learned import batches_of, fishers_of, grams_of  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def batch(n=40, shape=(5,), seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """Every kind of layer that is looked at, and some that are not."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.part = nn.Conv2d(6, 6, 3, padding="same", groups=2)
        self.line = nn.Conv1d(6, 4, 2, dilation=2, bias=False)
        self.scale = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.part(self.norm(self.conv(x)).relu()).relu()
        return self.out(self.line(x.flatten(2)).mean(-1)) * self.scale


def tuned(base, seed, size=0.05):
    torch.manual_seed(seed)
    module = copy.deepcopy(base)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn_like(p))
    return module


def test_grams_of_every_layer_are_those_of_its_rows():
    net = Net().eval()
    x = batch(7, (2, 8, 8))
    found = grams_of(net, x)
    assert set(found) == {"conv.weight", "line.weight", "out.weight"}
    taken = {}
    hooks = [
        part.register_forward_hook(lambda m, i, o, n=name: taken.update({n: (i[0], o)}))
        for name, part in net.named_modules()
        if name in ("conv", "line", "out")
    ]
    net(x)
    for hook in hooks:
        hook.remove()
    for name, (_, out) in taken.items():
        weight = getattr(net, name).weight
        w = weight.detach().double().numpy().reshape(weight.shape[0], -1)
        bias = getattr(net, name).bias
        if bias is not None:
            w = np.column_stack([w, bias.detach().double().numpy()])
        rows = out.detach().double().movedim(1, -1).reshape(-1, out.shape[1]).numpy()
        wanted = rows.T @ rows  # the layer's answers have the moments W G W^T
        np.testing.assert_allclose(w @ found[f"{name}.weight"] @ w.T, wanted, rtol=1e-5, atol=1e-5)
    assert net.training is False


def test_regmean_of_linear_models_is_the_pooled_least_squares_solution():
    xs = [batch(60, seed=1), 2 + 3 * batch(60, seed=2)]
    ys = [batch(60, (2,), seed=3), batch(60, (2,), seed=4)]
    modules, rows = [], [np.column_stack([x.double().numpy(), np.ones(60)]) for x in xs]
    for a, y in zip(rows, ys, strict=True):
        fit = torch.tensor(np.linalg.lstsq(a, y.double().numpy(), rcond=None)[0].T)
        module = nn.Linear(5, 2).double()
        with torch.no_grad():
            module.weight.copy_(fit[:, :5])
            module.bias.copy_(fit[:, 5])
        modules.append(module)
    pooled = np.linalg.lstsq(np.vstack(rows), np.vstack([y.double().numpy() for y in ys]), rcond=None)[0].T
    data = [x.double() for x in xs]
    for method in ("regmean", "regmean++"):
        found = conjoin.merge(modules, method, data=data, parameters={"alpha": 1})
        np.testing.assert_allclose(found.weight.detach().numpy(), pooled[:, :5], atol=1e-9)
        np.testing.assert_allclose(found.bias.detach().numpy(), pooled[:, 5], atol=1e-9)


def test_regmean_plus_answers_the_first_layer_as_regmean_and_later_ones_by_merged_inputs():
    base = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    modules = {n: tuned(base, s, 0.5) for n, s in (("a", 1), ("b", 2))}
    data = {"a": batch(80, seed=1), "b": batch(80, seed=2) + 1}
    plain = conjoin.merge(modules, "regmean", data=data)
    plus = conjoin.merge(modules, "regmean++", data=data)
    torch.testing.assert_close(plain[0].weight, plus[0].weight)
    assert not torch.allclose(plain[2].weight, plus[2].weight)
    again = conjoin.merge(modules, "regmean++", data=data)
    assert all(torch.equal(a, b) for a, b in zip(plus.parameters(), again.parameters(), strict=True))


def test_rows_of_an_embedding_count_as_often_as_they_are_asked_for():
    one, two = nn.Embedding(4, 2), nn.Embedding(4, 2)
    data = [torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 1, 1, 1]])]
    found = conjoin.merge([one, two], "regmean", data=data).weight
    a, b = one.weight, two.weight
    wanted = torch.stack([0.75 * a[0] + 0.25 * b[0], 0.25 * a[1] + 0.75 * b[1], *((a + b) / 2)[2:]])
    torch.testing.assert_close(found, wanted)


def test_fisher_of_logistic_regression_is_the_known_one():
    module = nn.Linear(3, 2)
    x = batch(400, (3,))
    with torch.no_grad():
        p = module(x).softmax(-1).numpy().astype(float)
    squares = (x.numpy().astype(float) ** 2)[:, None, :]
    exact = ((p * (1 - p))[:, :, None] * squares).mean(0)
    found = fishers_of(module, x)
    np.testing.assert_allclose(found["weight"], exact, rtol=0.35)
    labels = torch.tensor([0] * 400)
    told = fishers_of(module, [(x, labels)])["weight"]
    np.testing.assert_allclose(told, (((np.eye(2)[0] - p) ** 2)[:, :, None] * squares).mean(0), rtol=1e-4)
    again = fishers_of(module, x)
    assert all(np.array_equal(again[k], found[k]) for k in found)


def test_fisher_of_a_regression():
    module, x, y = nn.Linear(3, 1), batch(20, (3,)), batch(20, (1,), seed=1)
    gaps = (module(x) - y).detach().numpy()
    wanted = (gaps**2 * x.numpy() ** 2).mean(0)
    np.testing.assert_allclose(fishers_of(module, (x, y))["weight"][0], wanted, rtol=1e-4)


@pytest.mark.parametrize("method", ["fisher", "regmean", "regmean++"])
def test_equal_models_stay_and_order_does_not_matter(method):
    base = Net().eval()
    x = [batch(6, (2, 8, 8), seed=s) for s in range(2)]
    same = conjoin.merge([base, copy.deepcopy(base)], method, data=x)
    for (name, a), b in zip(same.named_parameters(), base.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    one, two = tuned(base, 1), tuned(base, 2)
    there = conjoin.merge({"one": one, "two": two}, method, data={"one": x[0], "two": x[1]})
    back = conjoin.merge({"two": two, "one": one}, method, data={"one": x[0], "two": x[1]})
    assert isinstance(there, Net)
    if method != "regmean++":  # its norms are counted in the order of the data
        for a, b in zip(there.parameters(), back.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    torch.testing.assert_close(there.unused.weight, (one.unused.weight + two.unused.weight) / 2)


def two_tasks():
    """Two fine-tunes of a base: each knows one half of the classes' directions."""
    base = nn.Linear(6, 4)
    with torch.no_grad():
        base.weight.mul_(0.05)
        base.bias.zero_()
    models, data = {}, {}
    for name, part in (("left", (0, 1)), ("right", (2, 3))):
        x = batch(200, (6,), seed=part[0])
        module = copy.deepcopy(base)
        with torch.no_grad():
            for k, c in enumerate(part):
                module.weight[c, c] += 4
                x[k::2, c] += 3
        models[name], data[name] = module, x
    return base, models, data


@pytest.mark.parametrize("layer_wise", [True, False])
def test_adamerging_makes_answers_surer(layer_wise):
    base, models, data = two_tasks()
    options = {"base": base, "data": data}

    def entropy(module):
        logs = [module(x).log_softmax(-1) for x in data.values()]
        return float(sum(-(g.exp() * g).sum(-1).mean() for g in logs).detach())

    start = conjoin.merge(models, "adamerging", parameters={"steps": 0}, **options)
    wanted = base.weight + 0.3 * sum(m.weight - base.weight for m in models.values())
    torch.testing.assert_close(start.weight, wanted)
    steps = {"steps": 60, "rate": 0.02, "layer_wise": layer_wise}
    found = conjoin.merge(models, "adamerging", parameters=steps, **options)
    assert entropy(found) < 0.8 * entropy(start)
    again = conjoin.merge(models, "adamerging", parameters=steps, **options)
    assert torch.equal(found.weight, again.weight)
    assert not base.weight.grad
    with pytest.raises(InputError, match="needs a base"):
        conjoin.merge(models, "adamerging", data=data)


def test_heads_of_their_own_are_given_by_forward():
    base, models, data = two_tasks()
    heads = {"left": nn.Linear(4, 2), "right": nn.Linear(4, 3)}
    asked = []

    def forward(module, x, name):
        asked.append(name)
        return heads[name](module(x))

    for method, more in (("fisher", {}), ("regmean", {}), ("adamerging", {"base": base})):
        steps = {"steps": 2} if method == "adamerging" else {}
        found = conjoin.merge(models, method, data=data, forward=forward, parameters=steps, **more)
        assert isinstance(found, nn.Linear)
    assert set(asked) == {"left", "right"}


def test_running_statistics_are_averaged_or_counted_anew():
    base = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).eval()
    models = [tuned(base, s) for s in (1, 2)]
    for i, m in enumerate(models):
        m[1].running_mean += i
        m[1].running_var += 2 * i
        m[1].num_batches_tracked += 5 + i
    data = [batch(100, seed=1), batch(100, seed=2) + 1]
    plain = conjoin.merge(models, "wudi", base=base)
    assert plain[1].running_mean.tolist() == [0.5] * 4
    assert plain[1].running_var.tolist() == [2.0] * 4
    assert int(plain[1].num_batches_tracked) == 5
    anew = conjoin.merge(models, "wudi", base=base, data=data)
    with torch.no_grad():
        z = plain[0](torch.cat([d[: len(d) // 64 * 64] for d in data]))
    torch.testing.assert_close(anew[1].running_mean, z.mean(0), atol=0.1, rtol=0.1)
    assert anew.training is False
    assert anew[1].momentum == 0.1
    torch.testing.assert_close(anew[0].weight, plain[0].weight)


def test_modules_come_back_as_they_went_in():
    base = Net().train()
    one, two = tuned(base, 1), tuned(base, 2).half()
    two.scale.requires_grad_(False)
    found = conjoin.merge([one, two], "linear", parameters={"weight": 1})
    assert found.training
    assert found.scale.requires_grad
    assert found.conv.weight.dtype == torch.float32
    torch.testing.assert_close(found.out.weight, (one.out.weight + two.out.weight.float()) / 2)
    assert found.scale.shape == ()
    halves = conjoin.merge([two, one], "linear", parameters={"weight": 1})
    assert halves.conv.weight.dtype == torch.float16


def test_state_dicts_of_tensors_stay_state_dicts():
    states = [tuned(Net(), s).bfloat16().state_dict() for s in (1, 2)]
    found = conjoin.merge(states, "uniform_soup")
    assert isinstance(found, dict)
    assert found["conv.weight"].dtype == torch.bfloat16
    mixed = conjoin.merge(
        [
            states[0],
            {k: v.float().numpy() if v.is_floating_point() else v.numpy() for k, v in states[1].items()},
        ],
        "uniform_soup",
    )
    torch.testing.assert_close(mixed["conv.weight"], found["conv.weight"])


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(6, 3)
            self.head = nn.Linear(3, 6, bias=False)
            self.head.weight = self.embed.weight

    found = conjoin.merge([Tied(), Tied()], "uniform_soup")
    assert found.head.weight is found.embed.weight


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 2).state_dict()], "all torch modules, or all state dicts"),
        (lambda: [nn.Linear(2, 2), nn.Bilinear(2, 2, 2)], "different classes .*Bilinear, Linear"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 3)], r"weight has different shapes"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 2, bias=False)], "model 1 lacks bias"),
        (lambda: [nn.Linear(2, 2), nn.Linear(2, 2, device="meta")], "weight: tensors without data"),
        (lambda: [{"w": torch.eye(2)}, {"w": torch.eye(2).to_sparse()}], "w: tensors of .*sparse"),
        (lambda: [{"w": torch.eye(2)}, {"w": torch.eye(2, dtype=torch.cfloat)}], "w: tensors of .*complex"),
    ],
)
def test_modules_that_do_not_fit(models, told):
    with pytest.raises(InputError, match=told):
        conjoin.merge(models(), "uniform_soup")


def test_data_in_every_form():
    x, y = np.ones((70, 5), np.float32), np.arange(70)
    found = list(batches_of((x, y)))
    assert [len(a) for a, _ in found] == [64, 6]
    assert found[1][1].tolist() == y[64:].tolist()
    assert next(batches_of({"a": x}))[0]["a"].shape == (64, 5)
    assert [len(a) for a, _ in batches_of([x, (x, y), [x, y]])] == [70, 70, 70]
    for data, told in (((x, y[:5]), "different numbers of rows"), ((x, y, y), "a tuple"), ("x", "not str")):
        with pytest.raises(InputError, match=told):
            list(batches_of(data))
    with pytest.raises(InputError, match="hold no example"):
        fishers_of(nn.Linear(5, 2), [], name="one")
