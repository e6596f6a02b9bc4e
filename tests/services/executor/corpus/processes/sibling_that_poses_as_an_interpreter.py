# A sibling repeats the call by which interpreters wait, while the program runs.
# expect: ok
# stdout: done
import ctypes, os, platform, time
number = {"x86_64": 56, "aarch64": 220}.get(platform.machine(), -1)
libc = ctypes.PyDLL(None, use_errno=True)
if libc.syscall(number, 0x8000 | 17, 0, 0, 0, 0) == 0:
    while True:
        try:
            os.sched_rr_get_interval(os.getppid())
            print("LEAKED", flush=True)
        except OSError:
            pass
time.sleep(0.1)
print("done")
