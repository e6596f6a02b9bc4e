# A character that UTF-8 does not have.
# expect: ok
# stdout: a?b
print("a\ud800b")
