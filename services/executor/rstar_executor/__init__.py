"""The code executor: runs candidate programs, each in a process of its own forked from a warm interpreter."""
