"""What the operator makes for a round, as plain bodies: pure functions of the round and the configuration."""
