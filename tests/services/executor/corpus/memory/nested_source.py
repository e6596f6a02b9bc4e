# Source nested so deeply that the parser runs out.
# expect: exception memory
eval("(" * 10**5 + ")" * 10**5)
