# Leaves log handlers and replaced standard streams.
# expect: ok
import io, logging, sys
logging.basicConfig(level=0)
logging.disable(100)
sys.stdin = io.StringIO("LEAKED")
sys.stderr = sys.__stderr__ = sys.__stdout__ = io.StringIO()
