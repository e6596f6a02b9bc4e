# Bytes that are no text.
# expect: ok
# stdout: a�b�
import sys
sys.stdout.buffer.write(b"a\xffb\xc3\n")
