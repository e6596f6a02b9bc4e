"""Tests on a real node: kubelet, containerd, images from the Dockerfiles, Services and DNS. Run by ``make e2e``."""
