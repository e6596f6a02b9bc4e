# Writes to the kernel's switches.
# expect: ok
# stdout: refused
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj", "/proc/self/uid_map", "/sys/fs/cgroup/cgroup.procs", "/sys/kernel/uevent_helper", "/proc/self/coredump_filter"):
    try:
        open(path, "r+").close()
        print("LEAKED", path)
    except OSError:
        pass
print("refused")
