"""From a snapshot of a round to its status and the writes that follow: pure functions on plain bodies."""
