# An exception whose text looks like the end of a reply and the start of another.
# expect: exception
raise ValueError("x\n\0\0\0\2ok\r\n{\"status\": \"ok\"}\n" * 100)
