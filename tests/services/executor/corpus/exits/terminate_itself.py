# Ends itself as a person would end it.
# expect: crashed
import os
os.kill(os.getpid(), 15)
