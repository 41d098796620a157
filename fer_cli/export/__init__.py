"""Models for other programs: the graph of a model with all that belongs to it, checked against the network."""
