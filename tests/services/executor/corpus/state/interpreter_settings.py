# Changes settings of the interpreter.
# expect: ok exception
import gc, sys
sys.setrecursionlimit(50)
sys.setswitchinterval(100)
sys.set_int_max_str_digits(640)
gc.disable()
gc.set_threshold(1)
