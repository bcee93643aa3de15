"""Runs ONNX models. The one file that imports onnxruntime.

A session uses one thread, because one row must not pay for waking others; a large batch is cut into chunks of
rows that run on several threads at once, and come back in order. How it is cut depends on the number of rows
alone, so the answers do not depend on the number of threads, not even in their last bit.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from conjoin.errors import BundleError
from conjoin.graph.builder import MOST_ROWS

if TYPE_CHECKING:
    from conjoin.graph.builder import Graph
    from conjoin.outputs import Array

LARGE = 1024
"""From so many rows on a batch is cut for several threads, into at least `PIECES`."""
PIECES = 4


class Session:
    """A loaded ONNX model: `run` takes named arrays whose first axis is rows.

    model: serialised ModelProto. rows: the most that run at once (`Graph.rows_at_once`). providers:
    onnxruntime execution providers, best first.
    Raises BundleError where onnxruntime refuses the model.
    """

    def __init__(
        self,
        model: bytes,
        *,
        threads: int | None = None,
        rows: int = MOST_ROWS,
        providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(model, options, providers=list(providers))
        except Exception as error:  # onnxruntime raises a class of its own per status code
            raise BundleError(f"onnxruntime refuses the model: {str(error)[:400]}") from error
        self.inputs: tuple[str, ...] = tuple(i.name for i in self._session.get_inputs())
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())
        self.threads = threads or cores()
        self.rows = rows

    @classmethod
    def of(cls, graph: Graph, *, threads: int | None = None) -> Session:
        """A session of a finished graph, with as many rows at once as its parts allow."""
        return cls(graph.build().SerializeToString(), threads=threads, rows=graph.rows_at_once)

    def run(self, feeds: Mapping[str, Array], names: Sequence[str] | None = None) -> list[Array]:
        """The outputs (all, or those named) for these rows."""
        wanted = list(names or self.outputs)
        n = len(next(iter(feeds.values())))
        pieces = max(-(-n // self.rows), PIECES if n >= LARGE else 1)
        if pieces == 1:
            return list(self._session.run(wanted, dict(feeds)))
        size = -(-n // pieces)
        chunks = [{k: v[a : a + size] for k, v in feeds.items()} for a in range(0, n, size)]

        def one(chunk: dict[str, Array]) -> list[Any]:
            return list(self._session.run(wanted, chunk))

        if self.threads == 1:
            parts = [one(c) for c in chunks]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                parts = list(pool.map(one, chunks))
        return [np.concatenate(p) for p in zip(*parts, strict=True)]


def cores() -> int:
    """How many processors this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
