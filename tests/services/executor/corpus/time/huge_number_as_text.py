# A huge integer as decimal text, which takes quadratic time.
# expect: timeout
# limits: seconds=0.3
import sys
sys.set_int_max_str_digits(0)
str(1 << 30_000_000)
