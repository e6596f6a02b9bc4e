# Makes its pipe larger, to hold more than it may print.
# expect: ok exception output_limit
# limits: output_bytes=4096
import fcntl
try:
    fcntl.fcntl(1, 1031, 1 << 20)  # F_SETPIPE_SZ
except OSError:
    pass
print("x" * 8000)
