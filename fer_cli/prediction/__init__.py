"""Expressions of faces in images, videos and cameras: what ``fer predict`` and ``load_model(...).predict`` do."""
