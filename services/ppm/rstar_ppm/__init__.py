"""The PPM service: scores the candidates for the next step of a partial trajectory."""
