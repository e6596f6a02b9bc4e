# Adds an audit hook, which cannot be removed, that forbids what the runner does at the end.
# expect: ok exception crashed
import sys
def hook(event, _):
    raise RuntimeError(event)
sys.addaudithook(hook)
