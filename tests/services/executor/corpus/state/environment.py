# Sets environment variables that configure interpreters.
# expect: ok
import os
os.environ.update(PYTHONPATH=".", PYTHONSTARTUP="evil.py", LD_PRELOAD="./evil.so", PYTHONHASHSEED="7")
os.putenv("RSTAR", "x")
