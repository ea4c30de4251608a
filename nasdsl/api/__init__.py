"""The jobs that take a while, as functions: what the commands of the same names call."""
