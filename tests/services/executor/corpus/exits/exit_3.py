# Exits with a code.
# expect: exception
import sys
sys.exit(3)
