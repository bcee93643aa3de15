"""Stands for internals of mergekit that only other tests of the same files use."""


def absent(name):
    """A class that nobody may make."""

    def refuse(self, *_, **__):
        raise NotImplementedError(f"conjoin has no {name}")

    return type(name, (), {"__init__": refuse})
