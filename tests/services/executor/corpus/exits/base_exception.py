# Raises a BaseException that is no Exception.
# expect: exception
class E(BaseException): pass
raise E('x')
