# Endless recursion.
# expect: exception
def f(): return f()
f()
