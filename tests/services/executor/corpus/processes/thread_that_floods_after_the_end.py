# A daemon thread prints while the interpreter shuts down.
# expect: ok output_limit exception
# limits: output_bytes=65536
import threading
def flood():
    while True:
        print("x" * 100)
threading.Thread(target=flood, daemon=True).start()
