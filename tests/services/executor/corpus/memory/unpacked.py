# A small compressed text that unpacks to far more than the memory limit.
# expect: memory
# limits: memory_mib=96
import zlib
packer = zlib.compressobj(1)
data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(150)) + packer.flush()
zlib.decompress(data)
