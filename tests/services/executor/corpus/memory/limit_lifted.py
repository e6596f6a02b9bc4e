# Raises its own limit on memory.
# expect: memory exception
# stdout:
# limits: memory_mib=96
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
if hard == resource.RLIM_INFINITY:
    print("LEAKED")
try:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("LEAKED")
except (OSError, ValueError):
    pass
x = bytearray(2 << 30)
