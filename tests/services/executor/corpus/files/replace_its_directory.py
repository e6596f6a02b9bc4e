# Replaces its working directory by a link to the whole machine.
# expect: ok exception
import os
here = os.getcwd()
os.rmdir(here)
os.symlink("/", here)
