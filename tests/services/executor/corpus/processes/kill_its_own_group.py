# Kills its own group, itself included.
# expect: crashed
import os
os.killpg(0, 9)
