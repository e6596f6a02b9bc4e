"""What every program that opens a model shares: token ids of a trajectory, model folders, devices."""
