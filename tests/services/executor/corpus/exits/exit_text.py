# Exits with a text.
# expect: exception
import sys
sys.exit('no')
