"""The objects that the operator creates for a round, as plain bodies: pure functions of round and configuration."""
