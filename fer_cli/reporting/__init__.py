"""Figures, tables and reports. Nothing here computes a metric."""
