"""Shared by all programs that load a model: token ids of trajectories, model folders, devices, loading and answers from a worker thread."""
