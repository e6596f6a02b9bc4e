# A constant expression that the compiler would fold for ever; Python refuses to fold it.
# expect: timeout memory exception ok
# limits: seconds=1
eval("+".join(["1"] * 20000) + "**9" * 5)
compile("x = " + "-" * 50 + "1", "f", "exec")
eval("(" * 80 + "2**9**9" + ")" * 80)
