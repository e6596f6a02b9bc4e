# Raises what Ctrl-C raises.
# expect: exception
raise KeyboardInterrupt
