# Closes every descriptor and fails: the failure must be reported all the same.
# expect: exception
import os
os.closerange(0, 4096)
1 / 0
