"""Tools for those who work on fer."""
