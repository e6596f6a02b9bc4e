# Jumps out of the runner by raising into the frames above it, from a destructor and a generator.
# expect: ok exception crashed
import ctypes, threading
ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.main_thread().ident), ctypes.py_object(SystemExit))
