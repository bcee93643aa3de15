import asyncio
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from conjoin.checks import check_member
from conjoin.errors import ColumnError, InputError, MemberError
from conjoin.members import remote

DTYPES = {"FP64": np.float64, "FP32": np.float32, "INT64": np.int64, "BYTES": object}


class Served:
    """A fitted model behind the Open Inference Protocol, and what was asked of it."""

    def __init__(self, inputs, outputs, answer):
        self.inputs, self.outputs, self.answer = inputs, outputs, answer
        self.asked = []

    def metadata(self, name):
        return {"name": name, "platform": "test", "inputs": self.inputs, "outputs": self.outputs}

    def infer(self, body):
        self.asked.append(body)
        given = {
            t["name"]: np.array(t["data"], dtype=DTYPES[t["datatype"]]).reshape(t["shape"])
            for t in body["inputs"]
        }
        made = self.answer(given)
        wanted = {o["name"] for o in body["outputs"]}
        outputs = [
            {"name": t["name"], "datatype": t["datatype"], "shape": list(a.shape), "data": a.ravel().tolist()}
            for t, a in zip(self.outputs, made, strict=True)
            if t["name"] in wanted
        ]
        return {"model_name": "m", "outputs": outputs}


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that gave up waiting is no news."""


@contextmanager
def serving(respond):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(*respond("GET", self.path, None))

        def do_POST(self):
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*respond("POST", self.path, json.loads(raw)))

        def _send(self, status, body):
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            pass

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def protocol(served):
    def respond(method, path, body):
        if path == "/v2/models/loans":
            return 200, served.metadata("loans")
        if path == "/v2/models/loans/infer":
            return 200, served.infer(body)
        return 404, {"error": f"no model at {path}"}

    return respond


def tensor(name, datatype, *shape):
    return {"name": name, "datatype": datatype, "shape": list(shape)}


@pytest.fixture(scope="module")
def line(people):
    return LogisticRegression().fit(people.numbers.to_numpy(), people.y)


@pytest.fixture
def loans(line):
    def answer(given):
        x = np.concatenate([given["age"], given["income"]], axis=1)
        return line.predict_proba(x), line.predict(x)

    return Served(
        [tensor("age", "FP64", -1, 1), tensor("income", "FP64", -1, 1)],
        [tensor("probabilities", "FP64", -1, 2), tensor("label", "BYTES", -1)],
        answer,
    )


def test_probabilities_in_chunks(people, line, loans):
    with serving(protocol(loans)) as url:
        member = remote(url, model="loans", classes=["no", "yes"], rows=64)
        assert (member.card.name, member.card.kind) == ("loans", "probabilities")
        assert [c.name for c in member.card.columns] == ["age", "income"]
        answer = member.predict({"more": np.ones(200), **people.filled})
        assert np.allclose(answer.values, line.predict_proba(people.numbers.to_numpy()))
        assert [b["inputs"][0]["shape"] for b in loans.asked] == [[64, 1]] * 3 + [[8, 1]]
        waited = asyncio.run(member.apredict(people.filled))
        assert np.array_equal(waited.values, answer.values)
        check_member(member, people.filled)


def test_labels(people, line, loans):
    with serving(protocol(loans)) as url:
        member = remote(url, model="loans", kind="labels", classes=["no", "yes"])
        assert list(member.predict(people.filled).names()) == list(line.predict(people.numbers.to_numpy()))


def test_a_matrix_and_texts(people):
    def answer(given):
        return ((given["x"].sum(axis=1) + given["n"][:, 0]).astype(np.float32)[:, None],)

    served = Served(
        [tensor("x", "FP32", -1, 2), tensor("n", "INT64", -1, 1)], [tensor("y", "FP32", -1, 1)], answer
    )
    with serving(protocol(served)) as url:
        member = remote(url, model="loans")
        batch = {"x": np.array([[1.0, 2], [3, 4]]), "n": np.array([10, 20])}
        assert member.predict(batch).values.tolist() == [13, 27]
        with pytest.raises(ColumnError, match="'n' takes integers"):
            member.predict({**batch, "n": np.array([1, np.nan])})
    words = Served(
        [tensor("w", "BYTES", -1, 1)],
        [tensor("y", "FP64", -1)],
        lambda g: (np.array([len(s) for [s] in g["w"]], float),),
    )
    with serving(protocol(words)) as url:
        member = remote(url, model="loans")
        assert member.predict({"w": np.array(["abc", None], dtype=object)}).values.tolist() == [3, 0]


def test_one_matrix_takes_columns_in_order(people, line):
    served = Served(
        [tensor("X", "FP64", -1, 2)], [tensor("p", "FP64", -1, 2)], lambda g: (line.predict_proba(g["X"]),)
    )
    with serving(protocol(served)) as url:
        expected = line.predict_proba(people.numbers.to_numpy())
        assert np.allclose(remote(url, model="loans").predict(people.filled).values, expected)
        named = remote(url, model="loans", columns=["age", "income"])
        swapped = dict(reversed(list(people.filled.items())))
        assert np.allclose(named.predict(swapped).values, expected)
        with pytest.raises(InputError, match="3 columns were given; the model reads 2"):
            remote(url, model="loans", columns=["a", "b", "c"])


def test_missing_numbers_travel_as_null(loans):
    seen = []

    def answer(given):
        seen.append(np.isnan(given["age"]).ravel().tolist())
        return np.full((2, 2), 0.5), np.array(["no", "no"], dtype=object)

    loans.answer = answer
    with serving(protocol(loans)) as url:
        remote(url, model="loans").predict({"age": np.array([np.nan, 1]), "income": np.zeros(2)})
    assert seen == [[True, False]]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, {"error": "out of cheese"}), "status 500: out of cheese"),
        ((503, b"busy"), "status 503: busy"),
        ((200, b"<html>"), "answered no JSON"),
        ((200, {"outputs": []}), "'loans': its answer does not follow the protocol"),
        (
            (200, {"outputs": [{**tensor("probabilities", "FP64", 2, 2), "data": [1, 2, 3]}]}),
            "does not follow",
        ),
        (
            (200, {"outputs": [{**tensor("probabilities", "FP64", 1, 2), "data": [0.5, 0.5]}]}),
            "answered 1 rows for a batch of 2 rows",
        ),
        (
            (200, {"outputs": [{**tensor("probabilities", "FP64", 2, 2), "data": [1, 0, None, 0]}]}),
            "not finite: row 1",
        ),
    ],
)
def test_an_endpoint_that_fails(loans, answer, message):
    def respond(method, path, body):
        return answer if method == "POST" else (200, loans.metadata("loans"))

    with serving(respond) as url:
        member = remote(url, model="loans", classes=["no", "yes"])
        with pytest.raises(MemberError, match=message):
            member.predict({"age": np.ones(2), "income": np.ones(2)})


def test_an_endpoint_that_is_slow(loans):
    ready = threading.Event()

    def respond(method, path, body):
        if method == "POST":
            ready.wait(2)
        return 200, loans.metadata("loans")

    with serving(respond) as url:
        member = remote(url, model="loans", timeout=0.1)
        with pytest.raises(MemberError, match=r"did not answer within 0.1 seconds"):
            member.predict({"age": np.ones(2), "income": np.ones(2)})
        ready.set()


def test_an_endpoint_that_is_not_there(loans):
    missing = pytest.raises(MemberError, match="status 404: no model at /v2/models/lones")
    with serving(protocol(loans)) as url, missing:
        remote(url, model="lones")
    with pytest.raises(MemberError, match="cannot be reached"):
        remote(url, model="loans")
    with pytest.raises(InputError, match="is not an address"):
        remote("127.0.0.1:80", model="loans")


def test_metadata_that_leave_it_open(loans):
    loans.outputs = [tensor("a", "FP64", -1, 2), tensor("b", "FP64", -1, 2)]
    with serving(protocol(loans)) as url:
        with pytest.raises(InputError, match="answers a, b; say which"):
            remote(url, model="loans")
        assert remote(url, model="loans", output="b").output == "b"
    with (
        serving(lambda *_: (200, {"name": "loans"})) as url,
        pytest.raises(MemberError, match="do not follow"),
    ):
        remote(url, model="loans")
