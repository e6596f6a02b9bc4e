# Opens unix sockets such as those of container engines.
# expect: ok
# stdout: refused
import socket
for path in ("/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("LEAKED", path)
    except OSError:
        pass
print("refused")
