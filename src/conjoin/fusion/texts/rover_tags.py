"""What every system says in every slot of a word network, as SCTK's `rover -m putat` writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from conjoin.errors import OutputsError
from conjoin.fusion.texts.rover_words import WordNetwork, lay_out, network_of

if TYPE_CHECKING:
    from conjoin.fusion.stack import Weights


def putative_tags(
    outputs: Mapping[str, Any],
    places: Sequence[tuple[str, str]],
    *,
    weights: Weights = None,
    null_confidence: float = 0.0,
    order: Sequence[str] | None = None,
    case_sensitive: bool = False,
    time_align: bool = False,
    silence: float = 1.0,
    lacking: str = "skip",
) -> list[str]:
    """Lines of the aligned words of all texts: an element for each slot, with an attribute for each system.

    places: file and channel of each row. The other parameters are those of `rover`. Raises OutputsError.

    >>> from conjoin.outputs import Texts
    >>> lines = putative_tags({"a": Texts(["so"]), "b": Texts([""])}, [("talk", "A")])
    >>> print(lines[1])
    <putative_tag file=talk chan=A >
    """
    words = lay_out(outputs, weights, order=order, case_sensitive=case_sensitive, lacking=lacking)
    if len(places) != words.texts:
        raise OutputsError(f"{words.texts} texts need as many places, not {len(places)}")
    net = network_of(words, time_align=time_align, silence=silence)
    named = [*(order or ()), *(n for n in words.names if n not in (order or ()))]
    lines = [f'<input names="{" ".join(n for n in named if n in words.names)}">']
    for i, (file, channel) in enumerate(places):
        for s in range(int(net.offsets[i]), int(net.offsets[i + 1])):
            lines.append(f"<putative_tag file={file} chan={channel} >")
            lines += _arcs(net, s, null_confidence)
            lines.append("</putative_tag >")
    return lines


def _arcs(net: WordNetwork, slot: int, null_confidence: float) -> list[str]:
    found = []
    words = net.words
    for column in net.turns[slot].tolist():
        if column < 0:
            break
        word = int(net.net[slot, column])
        told = ("@", 0.0, 0.0, null_confidence, "")
        if word >= 0:
            confidence = float(words.confidences[word])
            times = [0.0 if math.isnan(t) else float(t) for t in (words.starts[word], words.ends[word])]
            known = -1.0 if math.isnan(confidence) else confidence
            told = (words.spelled[word], times[0], times[1], known, words.names[column])
        found.append('   <attrib tag="{}" t1="{:f}" t2="{:f}" conf="{:f}" tag1="{}">'.format(*told))
    return found
