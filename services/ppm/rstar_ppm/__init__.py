"""The PPM service: scores candidate steps by what they lead to.

The package refuses to search, to generate and to train: it turns a state and n candidates into n scores.
"""
