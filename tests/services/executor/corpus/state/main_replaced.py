# Replaces the module in which programs run, and its builtins.
# expect: ok
import sys, types
sys.modules["__main__"] = types.ModuleType("evil")
globals()["__builtins__"] = {}
sys.argv = ["evil"]
sys.flags = None
