"""The test kubelet: a node whose pods follow scripts, or run as processes of this machine.

with Kubelet(bed.kubeconfig, lambda pod: Run(seconds=1, message="done")) as kubelet: ...
with Kubelet(bed.kubeconfig, always_real, namespace="lab") as kubelet: ...
"""

from rstar_testbed.kubelet.behaviour import Behaviour, ChooseBehaviour, Pending, Pod, Real, Run, Waiting, always_real
from rstar_testbed.kubelet.kubelet import Kubelet

__all__ = ["Behaviour", "ChooseBehaviour", "Kubelet", "Pending", "Pod", "Real", "Run", "Waiting", "always_real"]
