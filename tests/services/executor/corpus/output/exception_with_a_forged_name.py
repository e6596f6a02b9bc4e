# An exception whose type bears the name and text of a good end.
# expect: exception
raise type("ok\n\0ok", (Exception,), {})("")
