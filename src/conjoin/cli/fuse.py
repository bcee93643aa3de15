"""x."""


def fuse() -> None:
    """x."""
