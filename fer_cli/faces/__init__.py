"""Faces: what their parts are, the networks that find them, and how far their answers can be believed."""
