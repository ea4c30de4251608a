"""Syntax becomes a space: it is run once with decisions left open, and what it does to tensors is the graph."""
