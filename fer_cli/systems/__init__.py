"""The published systems and the baseline: one folder each."""
