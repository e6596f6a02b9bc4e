# Exits with a code whose comparison fails.
# expect: exception
class Odd:
    def __eq__(self, other):
        raise RuntimeError
    def __str__(self):
        raise RuntimeError
raise SystemExit(Odd())
