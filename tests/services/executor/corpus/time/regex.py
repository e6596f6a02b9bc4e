# A regular expression that takes exponential time.
# expect: timeout
# limits: seconds=0.3
import re
re.match("(a+)+$", "a" * 60 + "b")
