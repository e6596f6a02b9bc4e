# Asks the cloud's metadata service and the cluster's API server.
# expect: ok
# stdout: refused
import http.client
for host, port in (("169.254.169.254", 80), ("10.96.0.1", 443), ("kubernetes.default.svc", 443)):
    try:
        http.client.HTTPConnection(host, port, timeout=1).request("GET", "/")
        print("LEAKED", host)
    except OSError:
        pass
print("refused")
