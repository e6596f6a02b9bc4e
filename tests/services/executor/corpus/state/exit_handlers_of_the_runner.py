# Runs and removes the exit handlers of everybody.
# expect: ok
import atexit
atexit._run_exitfuncs()
atexit._clear()
