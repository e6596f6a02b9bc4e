"""The policy service: proposes n candidates for the next step of a partial trajectory."""
