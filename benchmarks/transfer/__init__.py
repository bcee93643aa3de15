"""Merging, transplanting, distilling and fine-tuning: how fast and how good, beside named peers."""
