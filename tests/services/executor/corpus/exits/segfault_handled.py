# Handles its own segmentation fault for ever.
# expect: timeout crashed
# limits: seconds=0.3
import ctypes, signal
signal.signal(signal.SIGSEGV, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGSEGV})
ctypes.string_at(0)
