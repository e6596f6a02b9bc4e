"""Checks of everything that runs on a GPU: ``python -m benchmarks.gpu_check``, on a machine with one CUDA GPU.

At most eight minutes, without a network, with torch and transformers and little else (``packages``). Each check runs in a
process of its own with a time limit (``runner``). ``--device cpu --quick`` runs the same checks in small.
"""
