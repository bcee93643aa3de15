"""Transplants of torch modules: growth and permutation keep the function, wiring is traced, ties stay."""

import copy
import importlib.util
import warnings

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.transplant import transplant

torch = pytest.importorskip("torch")
nn = torch.nn
torch.set_num_threads(1)


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, a, b, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
        self.conv2, self.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
        around = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))
        self.downsample = around if stride != 1 or a != b else None

    def forward(self, x):
        kept = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + kept)


class Residual(nn.Module):
    """A small residual network."""

    def __init__(self, width=8, depth=(2, 2), classes=5):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(*[Block(width, width) for _ in range(depth[0])])
        rest = [Block(2 * width, 2 * width) for _ in range(depth[1] - 1)]
        self.layer2 = nn.Sequential(Block(width, 2 * width, 2), *rest)
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x):
        x = self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(x.mean([2, 3]))


def convolutions(a=8, b=16, c=20, more=0):
    return nn.Sequential(
        *(nn.Conv2d(3, a, 3, padding=1), nn.BatchNorm2d(a), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()),
        *(p for _ in range(more) for p in (nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())),
        *(nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(b * 4, c), nn.ReLU(), nn.Linear(c, 5)),
    )


class Attention(nn.Module):
    """An encoder over tokens; the head may be the embedding."""

    def __init__(self, dim=16, heads=4, inner=24, depth=2, *, first=True, tied=False):
        super().__init__()
        self.embed = nn.Embedding(30, dim)
        self.pos_embed = nn.Parameter(torch.randn(1, 6, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, inner, 0.0, batch_first=True, norm_first=first)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.lm_head = nn.Linear(dim, 30, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, x):
        return self.lm_head(self.norm(self.encoder(self.embed(x) + self.pos_embed)))


def shaken(net, seed=0):
    """A network whose weights and statistics are all other than at the start."""
    draw = torch.Generator().manual_seed(seed)
    for name, buffer in net.named_buffers():
        if "var" in name:
            buffer.uniform_(0.5, 2, generator=draw)
        elif "mean" in name:
            buffer.normal_(0, 0.3, generator=draw)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=draw) * 0.1)
    return net.eval()


PICTURES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WORDS = torch.randint(0, 30, (4, 6), generator=torch.Generator().manual_seed(0))


def apart(a, b, x):
    with torch.no_grad():
        return float((a(x) - b.eval()(x)).abs().max())


@pytest.mark.parametrize(
    ("source", "target", "x"),
    [
        (convolutions(), convolutions(12, 40, 33), PICTURES),
        (convolutions(), convolutions(more=2), PICTURES),
        (Residual(), Residual(13), PICTURES),
        (Residual(), Residual(depth=(4, 3)), PICTURES),
        (Residual(), Residual(16, (3, 3)), PICTURES),
        (Attention(), Attention(32, 8, 50), WORDS),
        (Attention(), Attention(depth=4), WORDS),
        (Attention(tied=True), Attention(48, 12, 30, 3, tied=True), WORDS),
        (Attention(first=False), Attention(32, 8, 50, first=False), WORDS),
    ],
    ids=["cnn", "chain", "wider", "deeper", "both", "heads", "blocks", "tied", "post-norm"],
)
def test_growth_keeps_the_function(source, target, x):
    shaken(source)
    before = [copy.deepcopy(m.state_dict()) for m in (source, target)]
    done = transplant(source, target)
    assert apart(source, done.model, x) < 1e-5
    assert all(f.kind != "fresh" for f in done.fates if "tracked" not in f.name)
    assert not done.unused
    for net, kept in zip((source, target), before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items())
    assert done.model is not target


@pytest.mark.parametrize(
    ("net", "x"),
    [(Residual, PICTURES), (convolutions, PICTURES), (Attention, WORDS)],
    ids=["residual", "cnn", "attention"],
)
def test_permutation_keeps_the_function(net, x):
    one, two = shaken(net(), 1), shaken(net(), 2)
    done = transplant(one, two, align=1.0)
    assert apart(one, done.model, x) < 1e-5
    assert "aligned by traced wiring" in done.notes[0]
    moved = [k for k, v in done.model.state_dict().items() if not torch.equal(v, one.state_dict()[k])]
    assert moved
    half = transplant(one, two, align=0.5).model.state_dict()
    want = (done.model.state_dict()[moved[0]] + two.state_dict()[moved[0]]) / 2
    torch.testing.assert_close(half[moved[0]], want)


def test_tied_weights_stay_tied():
    source, target = shaken(Attention(tied=True)), Attention(tied=True)
    done = transplant(source, target)
    assert done.model.lm_head.weight is done.model.embed.weight
    assert any(f.how == "tied to embed.weight" for f in done.fates)
    apart_ = transplant(Attention(tied=True), Attention())
    assert torch.equal(apart_.model.lm_head.weight, apart_.model.embed.weight)


def test_added_blocks_after_norms_are_no_identities():
    done = transplant(Attention(first=False), Attention(depth=3, first=False))
    assert any("norm_first=False" in n for n in done.notes)


def test_narrower_and_shallower_runs():
    for width in ("even", "importance"):
        done = transplant(shaken(Residual(16, (3, 3))), Residual(8, (2, 2)), width=width)
        assert all(f.kind != "fresh" for f in done.fates)
        assert torch.isfinite(done.model.eval()(PICTURES)).all()


def test_what_must_not_move_stays():
    class Odd(nn.Module):
        """Units are cut apart and joined: not known, so they stay."""

        def __init__(self, n=8):
            super().__init__()
            self.a, self.b = nn.Linear(4, n), nn.Linear(n, 3)

        def forward(self, x):
            left, right = self.a(x).chunk(2, -1)
            return self.b(torch.cat([left.sigmoid() * right, right], -1))

    one, two = shaken(Odd(), 1), shaken(Odd(), 2)
    x = torch.randn(5, 4)
    done = transplant(one, two, align=1.0)
    assert apart(one, done.model, x) == 0
    assert "0 of 0 groups" in done.notes[0]


def test_types_and_torch_state_dicts():
    source = {"w": torch.tensor([1.0, 2.0], dtype=torch.bfloat16), "n": torch.tensor(3)}
    target = {"w": torch.zeros(2), "n": torch.tensor(0)}
    done = transplant(source, target).model
    assert done["w"].tolist() == [1, 2]
    assert done["w"].dtype == torch.float32
    assert int(done["n"]) == 3
    back = transplant({"w": np.array([1.0, 3.0])}, {"w": torch.zeros(2, dtype=torch.bfloat16)}).model
    assert back["w"].dtype == torch.bfloat16
    assert back["w"].tolist() == [1, 3]
    with pytest.raises(InputError, match="no tensor of numbers"):
        transplant({"w": torch.zeros(2, device="meta")}, target)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_grows_by_its_names(tied):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import LlamaConfig, LlamaForCausalLM

        def llama(dim, heads, inner, depth):
            config = LlamaConfig(
                hidden_size=dim,
                intermediate_size=inner,
                num_hidden_layers=depth,
                num_attention_heads=heads,
                num_key_value_heads=heads // 2,
                vocab_size=30,
                max_position_embeddings=32,
                tie_word_embeddings=tied,
            )
            return LlamaForCausalLM(config).eval()

        source = shaken(llama(16, 4, 24, 2))
        done = transplant(source, llama(32, 8, 40, 4))
        with torch.no_grad():
            far = (source(WORDS).logits - done.model(WORDS).logits).abs().max()
    assert float(far) < 1e-5
