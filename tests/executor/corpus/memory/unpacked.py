# A small compressed text that unpacks to a gigabyte.
# expect: memory
# limits: memory_mib=96 seconds=5
import zlib
packer = zlib.compressobj(9)
data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
zlib.decompress(data)
