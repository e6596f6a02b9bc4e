# Reads an address where nothing is mapped, in a thread.
# expect: crashed
import ctypes, threading
thread = threading.Thread(target=ctypes.string_at, args=(0,))
thread.start()
thread.join()
