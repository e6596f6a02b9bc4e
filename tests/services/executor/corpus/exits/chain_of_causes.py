# An exception with ten thousand causes.
# expect: exception
error = ValueError(0)
for k in range(10000):
    following = ValueError(k)
    following.__cause__ = error
    error = following
raise error
