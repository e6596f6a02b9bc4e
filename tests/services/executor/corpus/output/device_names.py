# Opens its output by the names of devices.
# expect: ok exception
for path in ("/dev/stdout", "/dev/tty", "/dev/console", "/dev/kmsg", "/dev/pts/0", "/dev/ttyS0"):
    try:
        with open(path, "w") as device:
            device.write("LEAKED\n")
        if path != "/dev/stdout":
            print("LEAKED", path)
    except OSError:
        pass
print("done")
