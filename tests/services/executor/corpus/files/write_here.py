# Writes into its own directory, which is allowed; the next program must not find the files.
# expect: ok
# stdout: ['a'] True
import os
os.makedirs("a/b")
with open("a/b/c", "w") as file:
    file.write("x" * 1000)
print(os.listdir(), open("a/b/c").read() == "x" * 1000)
