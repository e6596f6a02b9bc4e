"""The programs of the five stages. A PyTorchJob's pod and the laptop driver start the same command lines."""
