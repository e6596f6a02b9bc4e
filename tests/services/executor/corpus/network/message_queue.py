# A named message queue, which would outlive its program.
# expect: ok
# stdout: refused
import ctypes, os
library = ctypes.CDLL(None, use_errno=True)
print("LEAKED" if library.mq_open(b"/rstar-corpus", os.O_CREAT | os.O_RDWR, 0o600, None) >= 0 else "refused")
