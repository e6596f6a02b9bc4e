"""The test kubelet: a node that plays pods from scripts, or runs them for real as processes of this machine.

with Kubelet(bed.kubeconfig, lambda pod: Run(seconds=1, message="done")) as kubelet: ...
with Kubelet(bed.kubeconfig, real, namespace="lab") as kubelet: ...
"""

from rstar_testbed.kubelet.kubelet import Kubelet
from rstar_testbed.kubelet.plays import Pending, Play, Player, Pod, Real, Run, Waiting, real

__all__ = ["Kubelet", "Pending", "Play", "Player", "Pod", "Real", "Run", "Waiting", "real"]
