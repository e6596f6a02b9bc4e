"""The report of a store: all its rounds as plain data, as figures and as one HTML page.

``collect`` reads a store; ``figures``, ``choice``, ``sampling`` and ``lineage`` are pure; ``charts`` and ``page`` render.
"""
