# Writes into its own directory, which it may; the next program must not find it.
# expect: ok
# stdout: ['a'] True
import os
os.makedirs("a/b")
with open("a/b/c", "w") as file:
    file.write("x" * 1000)
print(os.listdir(), open("a/b/c").read() == "x" * 1000)
