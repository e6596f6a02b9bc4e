# Writes a file larger than allowed and takes the default of the signal that the kernel sends.
# expect: crashed exception
# limits: file_mib=4
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
with open("f", "wb") as file:
    for _ in range(64):
        file.write(bytes(1 << 20))
