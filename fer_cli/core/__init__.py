"""The ground floor: errors, labels, machine, processes, signals, provenance, progress, recipes. It imports no other."""
