"""The pictures of ``fer plot``: one module a plot. What a report shows as well is drawn in :mod:`fer_cli.reporting`."""
