# Changes constants and functions of shared modules.
# expect: ok
import math, json, os, random, time
math.pi = 3
math.sqrt = lambda x: 42
random.random = lambda: 0.5
json.dumps = lambda *_: '{"status": "ok"}'
os.read = os.write = os.getpid = os.fork = lambda *_: 0
time.monotonic = lambda: 0
