# Empties the table of modules.
# expect: ok exception crashed
import sys
sys.modules.clear()
