"""Shims stand for peers in processes of their own; they are no tests, nor are checkouts of the peers."""

collect_ignore_glob = ["*/shim/*", "*/shim_*", "work/*"]
