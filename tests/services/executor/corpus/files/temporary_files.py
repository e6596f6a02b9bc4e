# Uses temporary files as libraries do, which end up in its own directory, or nowhere.
# expect: ok exception
import os, tempfile
with tempfile.NamedTemporaryFile() as file:
    print(os.path.dirname(file.name) == os.getcwd())
