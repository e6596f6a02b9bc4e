# An exception whose class and attributes lie or fail.
# expect: exception
class Meta(type):
    @property
    def __name__(cls):
        raise RuntimeError
class E(Exception, metaclass=Meta):
    @property
    def __traceback__(self):
        raise RuntimeError
    @property
    def __class__(self):
        return SystemExit
raise E("x")
