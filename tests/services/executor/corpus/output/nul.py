# Zero bytes in the output and in a reason.
# expect: exception
print("a\0b")
raise ValueError("c\0d\n\0")
