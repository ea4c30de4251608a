"""Syntax becomes a space: the program is run once with decisions left open, and what it does to tensors is the graph."""
