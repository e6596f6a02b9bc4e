# Raises its own limit on processor time, then loops.
# expect: timeout
# limits: seconds=0.3
import resource
try:
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
except (OSError, ValueError):
    pass
while True:
    pass
