# Removes every builtin.
# expect: ok exception crashed
import builtins
vars(builtins).clear()
