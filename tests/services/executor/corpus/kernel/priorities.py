# Takes the processor from all others: priorities, real-time scheduling, other processes' cores.
# expect: ok
# stdout: refused
import os
for attack in (
    lambda: os.setpriority(os.PRIO_PROCESS, 0, -20),
    lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    lambda: os.setpriority(os.PRIO_USER, 0, 19),
    lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)),
    lambda: os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0)),
    lambda: os.sched_setaffinity(os.getppid(), {0}),
    lambda: os.nice(-5),
):
    try:
        attack()
        print("LEAKED")
    except OSError:
        pass
print("refused")
