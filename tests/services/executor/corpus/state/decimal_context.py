# Changes the precision and traps of decimals, for this thread and the default.
# expect: ok
import decimal
decimal.getcontext().prec = 2
decimal.getcontext().traps[decimal.DivisionByZero] = False
decimal.DefaultContext.prec = 2
decimal.setcontext(decimal.BasicContext)
