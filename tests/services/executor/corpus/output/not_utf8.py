# Prints bytes that are not UTF-8.
# expect: ok
# stdout: a�b�
import sys
sys.stdout.buffer.write(b"a\xffb\xc3\n")
