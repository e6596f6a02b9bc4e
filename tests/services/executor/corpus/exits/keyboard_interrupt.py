# Raises KeyboardInterrupt.
# expect: exception
raise KeyboardInterrupt
