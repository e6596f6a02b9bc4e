# Asks for its number the 32-bit way, past a filter that knows 64-bit numbers alone.
# expect: crashed
# machine: x86_64
import ctypes, mmap
code = (
    b"\x53"                                   # push rbx
    b"\xb8" + (20).to_bytes(4, "little") +   # mov eax, number
    b"\xbb" + (0).to_bytes(4, "little") +    # mov ebx, first argument
    b"\xb9" + (0).to_bytes(4, "little") +    # mov ecx, second
    b"\xba" + (0).to_bytes(4, "little") +    # mov edx, third
    b"\xcd\x80"                               # int 0x80
    b"\x5b\xc3"                               # pop rbx; ret
)
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(code)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
result = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
print("LEAKED" if result >= 0 else "refused", flush=True)
