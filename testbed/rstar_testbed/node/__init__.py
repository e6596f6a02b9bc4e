"""A real node for the testbed: kubelet, containerd, CNI plugins, kube-proxy and CoreDNS in namespaces of their own."""
