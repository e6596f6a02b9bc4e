# Prints a lone surrogate, which UTF-8 cannot encode.
# expect: ok
# stdout: a?b
print("a\ud800b")
