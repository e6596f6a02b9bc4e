# Removes its working directory.
# expect: ok exception
import os
os.rmdir(os.getcwd())
