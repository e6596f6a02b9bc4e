# Poisons a cached result of sympy.
# expect: ok exception
import sympy
x = sympy.Symbol("x")
square = sympy.expand((x + 1) ** 2)
square._args = (sympy.Integer(666),)
sympy.S.Half.__class__.p = 7
