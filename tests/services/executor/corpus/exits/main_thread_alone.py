# The main thread ends; another thread continues.
# expect: timeout crashed
# limits: seconds=0.3
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}.get(platform.machine(), -1), 0)
