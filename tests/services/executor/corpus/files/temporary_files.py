# Uses temporary files as libraries do; they may end up only in its own directory.
# expect: ok exception
import os, tempfile
with tempfile.NamedTemporaryFile() as file:
    print(os.path.dirname(file.name) == os.getcwd())
