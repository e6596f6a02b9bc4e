# Fetches a page.
# expect: ok
# stdout: refused
import urllib.request
try:
    print("LEAKED", urllib.request.urlopen("http://127.0.0.1:80/", timeout=1).status)
except OSError:
    print("refused")
