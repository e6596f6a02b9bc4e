"""What a round will need, before anything is paid for: tokens, calls, time, memory, storage. Formulae on plain data.

docs/planning.md has every formula with its source. Only ``measured`` reads files: those of an earlier round.
"""
