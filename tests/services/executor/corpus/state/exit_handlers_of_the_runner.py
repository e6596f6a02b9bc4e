# Runs and removes all exit handlers.
# expect: ok
import atexit
atexit._run_exitfuncs()
atexit._clear()
