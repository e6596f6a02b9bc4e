"""rStar-Math as a library: search, selection and the seams to models. Knows no wire and no cluster."""
