"""Shared by all programs that load a model: token ids of trajectories, model folders, devices."""
