"""The names of ranx over conjoin: as many as ranx's own tests of fusion and normalisation use."""

from conjoin.fusion.ranking import from_dict, from_dicts, to_dict


class Run:
    """query -> {document: score}, queries by name, documents by falling score."""

    def __init__(self, run=None, name=None):
        queries = sorted(run or {})
        self.run = to_dict(from_dict(run, queries), queries) if queries else {}
        self.name = name

    def __getitem__(self, query):
        return self.run[query]

    def __len__(self):
        return len(self.run)

    @property
    def size(self):
        return len(self.run)

    def keys(self):
        return self.run.keys()

    def to_typed_list(self):
        return self.run


class Qrels(Run):
    """Judgements."""


def laid(runs):
    """Rankings of runs named so that their order is that of their names, and the queries."""
    queries = list(runs[0].keys())
    return from_dicts({name_of(i): run.run for i, run in enumerate(runs)}, queries), queries


def name_of(i):
    return f"{i:04d}"
