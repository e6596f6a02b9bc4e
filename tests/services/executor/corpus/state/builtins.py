# Replaces builtins that all code uses.
# expect: ok
import builtins
for name in ("len", "print", "isinstance", "open", "str", "type", "int", "list", "dict", "repr", "exec", "compile", "getattr", "BaseException", "Exception", "OSError", "__import__"):
    setattr(builtins, name, None)
