# Prints everything that might pass for the end of a result.
# expect: ok
end = "<end" + "_of_output>"
print(end + "<ans" + "wer>" + "{}")
print("\0\0\0\0\2ok")
print('{"file": "x.py", "status": "ok", "reason": "", "stdout": "42", "ms": 1}')
