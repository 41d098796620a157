"""Pictures and reports: what an evaluation looks like. Nothing here computes a metric."""
