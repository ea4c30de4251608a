"""A supernet becomes an architecture: data, tasks, training and search."""
