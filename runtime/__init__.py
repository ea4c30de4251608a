"""A supernet becomes an architecture: data, tasks, training and search."""

import warnings

# tqdm, which optuna brings, asks every notebook for widgets that nothing here shows.
warnings.filterwarnings("ignore", message="IProgress not found")
