"""The programs of the five stages, as a PyTorchJob's pod and the laptop driver start them."""
