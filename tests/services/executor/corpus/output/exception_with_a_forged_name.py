# An exception whose type has the name and text of a success.
# expect: exception
raise type("ok\n\0ok", (Exception,), {})("")
