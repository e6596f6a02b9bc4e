"""The layers between a program and everything else: one module per layer, each saying what it covers and what not.

Standard library and the kernel only: they run inside the warden, before and between programs.
"""
