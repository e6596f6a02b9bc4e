# Leaves timers behind that would go off in the next program.
# expect: ok
# stdout: done
import signal
signal.setitimer(signal.ITIMER_REAL, 0.2)
signal.setitimer(signal.ITIMER_PROF, 0.2)
signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
print("done")
