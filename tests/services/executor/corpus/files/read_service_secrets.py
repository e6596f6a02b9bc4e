# Reads what a pod keeps for its service: tokens, mounted secrets, the container's environment.
# expect: ok
# stdout: refused
import os
paths = ["/var/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets", "/tmp/rstar-corpus-secret/token", "/proc/1/environ", "/var/lib/kubelet"]
for path in paths:
    for how in (lambda: open(path).read(), lambda: os.listdir(path), lambda: os.open(path, os.O_RDONLY)):
        try:
            print("LEAKED", how())
        except OSError:
            pass
print("refused")
