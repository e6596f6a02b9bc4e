# An exception with a text of a million characters.
# expect: exception
raise ValueError('x' * 10**6)
