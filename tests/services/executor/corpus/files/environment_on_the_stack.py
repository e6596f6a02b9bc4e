# Reads the bottom of its stack, where the kernel puts arguments and environment.
# expect: ok crashed
# stdout:
import ctypes
libc = ctypes.CDLL(None)
stack_end = ctypes.c_void_p.in_dll(libc, "__libc_stack_end").value
page = stack_end & ~4095
text = b""
for k in range(4):  # as far as it is mapped; a fault ends the program
    text += ctypes.string_at(page + 4096 * k, 4096)
    if b"RSTAR_CORPUS_SECRET" in text:
        print("LEAKED", flush=True)
