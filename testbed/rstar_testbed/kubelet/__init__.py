"""The test kubelet: a node whose pods follow scripts. Nothing runs: tests decide how pods start, end and fail.

with Kubelet(bed.kubeconfig, lambda pod: Run(seconds=1, message="done")) as kubelet: ...
"""

from rstar_testbed.kubelet.behaviour import Behaviour, ChooseBehaviour, Pending, Pod, Run, Waiting
from rstar_testbed.kubelet.kubelet import Kubelet

__all__ = ["Behaviour", "ChooseBehaviour", "Kubelet", "Pending", "Pod", "Run", "Waiting"]
