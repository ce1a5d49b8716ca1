"""API ops by family: each is a node of the graph and, beside it, its expansion."""
