"""From what is seen of a round to what is written: pure functions on plain bodies."""
