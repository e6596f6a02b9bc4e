# Keeps a generator and a thread that would continue in the next program.
# expect: ok exception
import sys, threading, time
def forever():
    while True:
        time.sleep(0.01)
        sys.stdout.write("LEAKED")
        sys.stdout.flush()
threading.Thread(target=forever, daemon=True).start()
