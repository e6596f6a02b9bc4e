"""Programs as solvers write them: in the executor each prints what it prints in plain CPython.

A line that starts with ``# Step`` begins a step; most programs are one step. None reads a clock or an unseeded generator.
"""

from __future__ import annotations

import re
from typing import Final

LINEAR_ALGEBRA: Final = {
    "ones times ones": "import numpy as np\na = np.ones((200, 200))\nprint((a @ a)[0, 0])",
    "dot of 10,001 numbers": "import numpy as np\nx = np.ones(10001)\nprint(x @ x)",
    "matmul of random matrices": (
        "import numpy as np\nr = np.random.default_rng(1)\na, b = r.normal(size=(300, 300)), r.normal(size=(300, 300))\n"
        "print(a.dot(b).sum().round(6), np.einsum('ij,jk->ik', a, b).trace().round(6), np.matmul(a, b)[7, 7].round(9))"
    ),
    "solve, inverse, determinant": (
        "import numpy as np\nr = np.random.default_rng(2)\na = r.normal(size=(150, 150)) + 20 * np.eye(150)\n"
        "x = np.linalg.solve(a, np.ones(150))\nprint(np.allclose(a @ x, 1), np.linalg.inv(a).trace().round(9))\n"
        "print(np.linalg.slogdet(a)[1].round(8), np.linalg.det(np.array([[2., 1.], [1., 3.]])).round(12))"
    ),
    "eigenvalues": (
        "import numpy as np\nn = 120\na = np.diag(np.full(n, 2.)) - np.diag(np.ones(n - 1), 1) - np.diag(np.ones(n - 1), -1)\n"
        "print(np.linalg.eigvalsh(a)[:3].round(8), np.sort(np.linalg.eig(a)[0].real)[-2:].round(8))"
    ),
    "singular values, rank, norm, least squares": (
        "import numpy as np\na = np.vander(np.linspace(0, 1, 100), 8)\nprint(np.linalg.svd(a)[1].round(6), np.linalg.matrix_rank(a))\n"
        "print(np.linalg.lstsq(a, a @ np.arange(8.), rcond=None)[0].round(5), np.linalg.norm(a).round(9), np.linalg.cond(a).round(1))"
    ),
    "matrix powers and QR": (
        "import numpy as np\nm = np.array([[1, 1], [1, 0]], dtype=object)\nprint(np.linalg.matrix_power(m, 200)[0, 1])\n"
        "q, r = np.linalg.qr(np.arange(1., 10001).reshape(100, 100))\nprint(np.allclose(q.T @ q, np.eye(100)))\n"
        "print(np.linalg.cholesky(np.eye(150) * 4)[0, 0])"
    ),
    "scipy's factorisations": (
        "import numpy as np\nfrom scipy import linalg\na = np.random.default_rng(3).normal(size=(150, 150))\n"
        "p, l, u = linalg.lu(a)\nprint(np.allclose(p @ l @ u, a), linalg.expm(np.zeros((3, 3)))[1, 1])\n"
        "print(linalg.solve(a, a @ np.ones(150))[:3].round(6), linalg.svdvals(a)[0].round(6), linalg.eigvals(np.eye(100)).sum())"
    ),
    "in three steps": (
        "# Step 1\nimport numpy as np\na = np.ones((200, 200))\n# Step 2\nb = a @ a\nprint(b[0, 0])\n"
        "# Step 3\nw, v = np.linalg.eigh(b)\nprint(round(w[-1]), np.linalg.solve(b + np.eye(200), b[0])[0].round(9))"
    ),
    "in a thread and in a child process": (
        "import os, threading, numpy as np\na = np.ones((200, 200))\nt = threading.Thread(target=lambda: print((a @ a)[0, 0], flush=True))\n"
        "t.start(); t.join()\nif os.fork() == 0:\n    print((a @ a)[1, 1], flush=True)\n    os._exit(0)\nos.wait()\nprint((a @ a)[2, 2])"
    ),
    "numpy found by its name": (
        "np = __import__('nu' + 'mpy')\na = np.ones((200, 200))\nprint((a @ a)[0, 0], np.linalg.solve(2 * np.eye(100), np.ones(100)).sum())"
    ),
    "an environment emptied by the program": (
        "import os\nos.environ.clear()\nnp = __import__('nu' + 'mpy')\na = np.ones((200, 200))\nprint((a @ a)[0, 0])"
    ),
    "an environment that asks for threads": (
        "import os\nos.environ['OMP_NUM_THREADS'] = os.environ['OPENBLAS_NUM_THREADS'] = '4'\n"
        "import numpy as np\nfrom scipy import linalg\nprint((np.ones((200, 200)) @ np.ones((200, 200)))[0, 0], linalg.inv(2 * np.eye(100))[3, 3])"
    ),
}
"""What hung where a library had a pool of threads before a fork."""

SYMPY: Final = {
    "solve": "from sympy import *\nx, y = symbols('x y')\nprint(solve(x**2 - 5*x + 6, x), solve([x + y - 3, x - y - 1], [x, y]), solve(x**3 - x - 1, x)[2].evalf())",
    "solve in two steps": "# Step 1: solve\nfrom sympy import symbols, solve\nx = symbols('x')\nroots = solve(x**2 - 5*x + 6, x)\n# Step 2\nprint(sum(roots))",
    "solveset and nsolve": "from sympy import *\nx = symbols('x')\nprint(solveset(sin(x), x, Interval(0, 7)), nsolve(cos(x) - x, x, 1), nroots(x**5 - x - 1)[0])",
    "integrals": "import sympy as sp\nx = sp.Symbol('x')\nprint(sp.integrate(sp.exp(-x**2), (x, -sp.oo, sp.oo)), sp.integrate(x * sp.sin(x), x), sp.Integral(sp.sin(x) / x, (x, 0, 1)).evalf())",
    "limits, series, derivatives": "from sympy import *\nx = symbols('x')\nprint(limit(sin(x) / x, x, 0), series(exp(x), x, 0, 5), diff(x**x, x), limit((1 + 1/x)**x, x, oo))",
    "matrices": "from sympy import Matrix, eye, Rational\nm = Matrix([[1, 2], [3, 4]])\nprint(m.det(), m.inv(), m.eigenvals(), m**5)\nprint((m - 7 * eye(2)).rref(), m.charpoly().as_expr())",
    "rationals": "from sympy import Rational, nsimplify, sqrt, pi, N\nprint(Rational(1, 3) + Rational(1, 6), nsimplify(0.125), N(pi, 50), sqrt(50), sqrt(2).evalf(30))",
    "number theory": "from sympy import *\nprint(factorint(2**64 + 1), prime(1000), totient(10**6), divisors(360), isprime(2**127 - 1), mod_inverse(3, 11), primepi(10**5))",
    "ntheory": "from sympy.ntheory import *\nfrom sympy.ntheory.modular import crt\nprint(primitive_root(23), discrete_log(41, 15, 7), n_order(2, 101), crt([3, 5, 7], [2, 3, 2]), sqrt_mod(10, 13))",
    "simplify": "from sympy import *\nx, y = symbols('x y', positive=True)\nprint(simplify(sin(x)**2 + cos(x)**2), factor(x**3 - y**3), expand((x + y)**5), trigsimp(sin(2*x) / sin(x)), radsimp(1 / (1 + sqrt(2))))",
    "sums and products": "from sympy import *\nk, n = symbols('k n', integer=True)\nprint(summation(k**2, (k, 1, n)), factor(summation(k**3, (k, 1, n))), product(k, (k, 1, 10)), Sum(1/k**2, (k, 1, oo)).doit())",
    "diophantine and inequalities": "from sympy import *\nfrom sympy.solvers.diophantine import diophantine\nx, y = symbols('x y', integer=True)\nprint(diophantine(2*x + 3*y - 5), reduce_inequalities([symbols('t') > 3]), solve_univariate_inequality(symbols('r', real=True)**2 < 4, symbols('r', real=True)))",
    "recurrences and equations of functions": "from sympy import *\nf, n, t = Function('f'), symbols('n', integer=True), symbols('t')\nprint(rsolve(f(n + 2) - f(n + 1) - f(n), f(n), {f(0): 0, f(1): 1}))\ng = Function('g')\nprint(dsolve(g(t).diff(t) - g(t), g(t)))",
    "polynomials": "from sympy import *\nx = symbols('x')\nprint(Poly(x**3 - 2*x + 1).all_coeffs(), div(x**3 - 1, x - 1), gcd(x**2 - 1, x**3 - 1), apart(1 / (x**2 - 1)), resultant(x**2 - 1, x - 3, x))",
    "geometry and combinatorics": "from sympy import Point, Triangle, Circle, binomial, factorial\nfrom sympy.combinatorics import Permutation\nt = Triangle(Point(0, 0), Point(4, 0), Point(0, 3))\nprint(t.area, t.incircle.radius, Circle(Point(0, 0), 5).intersection(Circle(Point(6, 0), 5)), binomial(50, 25), factorial(30), Permutation([2, 0, 1]).order())",
    "printed forms": "from sympy import *\nx = symbols('x')\npprint(Rational(1, 2) * x**2 + sqrt(x))\nprint(latex(Integral(x**2, x)), srepr(x + 1), pretty(Matrix([[1, x], [0, 1]]), use_unicode=False))",
    "lambdify": "from sympy import *\nx = symbols('x')\nf = lambdify(x, x**2 + sin(x), 'math')\ng = lambdify(x, x**2 + sin(x))\nprint(f(1.5), g(2), [f(k) for k in range(3)])",
    "mpmath": "from mpmath import *\nmp.dps = 40\nprint(mpf(1) / 3, zeta(3), quad(lambda t: exp(-t*t), [0, inf]), findroot(cos, 1), polyroots([1, -3, 2]), nstr(pi, 15))",
    "an expression too large to hold": "from sympy import *\nx = symbols('x')\nprint(len(str(expand((1 + x)**200))), expand((1 + x)**60).coeff(x, 30))",
}

NUMPY: Final = {
    "arrays": "import numpy as np\na = np.arange(12).reshape(3, 4)\nprint(a, a.T, a.sum(axis=0), a[a % 2 == 0], np.cumsum(a), a.mean(), a.std())",
    "roots and polynomials": "import numpy as np\nprint(np.roots([1, -6, 11, -6]).round(8), np.polyfit([0, 1, 2, 3], [1, 3, 7, 13], 2).round(8), np.polyval([1, 2, 3], 5), np.poly1d([1, 0, -1]))",
    "Fourier transforms": "import numpy as np\nprint(np.fft.fft([1, 2, 3, 4]), np.fft.ifft(np.fft.fft(np.arange(5.))).real.round(12), np.fft.rfft(np.ones(64))[:2], np.convolve([1, 2, 3], [0, 1, 0.5]))",
    "sorting and sets": "import numpy as np\nx = np.array([3, 1, 2, 3])\nprint(np.sort(x), np.argsort(x), np.unique(x, return_counts=True), np.where(x > 1), np.intersect1d(x, [1, 3]), np.searchsorted([1, 2, 3], 2.5))",
    "a sieve": "import numpy as np\nn = 10**6\ns = np.ones(n + 1, dtype=bool)\ns[:2] = False\nfor i in range(2, int(n**0.5) + 1):\n    if s[i]:\n        s[i*i::i] = False\nprint(s.sum(), np.nonzero(s)[0][-3:])",
    "seeded random numbers": "import numpy as np, random\nrandom.seed(3); np.random.seed(3)\nprint(random.random(), random.sample(range(100), 5), np.random.rand(2), np.random.default_rng(5).integers(0, 100, 5), np.random.permutation(5))",
    "a simulation": "import numpy as np\nnp.random.seed(0)\nx, y = np.random.rand(2, 10**6)\nprint(4 * ((x*x + y*y) < 1).mean())",
    "warnings do not fail": "import numpy as np\nprint(np.array([1., 0.]) / 0, np.sqrt(-1.), np.log(0.), np.polyfit([1, 1], [2, 2], 3).shape)",
    "printed options": "import numpy as np\nnp.set_printoptions(precision=3, suppress=True)\nprint(np.array([1/3, 1e-9, 2e5]), np.float64(1/3), np.int64(7), [np.float64(2.5)], np.pi)",
    "meshgrid and vectorize": "import numpy as np\nx, y = np.meshgrid(range(3), range(4))\nprint((x * y).sum(), np.vectorize(lambda t: t**2)(np.arange(4)), np.trapezoid([1, 2, 3]) if hasattr(np, 'trapezoid') else 4.0, np.gradient([1, 4, 9.]), np.diff([1, 4, 9]))",
}

SCIPY: Final = {
    "optimize": "from scipy.optimize import *\nprint(minimize(lambda v: (v[0] - 1)**2 + (v[1] + 2)**2, [0, 0]).x.round(4), brentq(lambda x: x**2 - 2, 0, 2), fsolve(lambda x: x**3 - 8, 1).round(8), linprog([-1, -2], [[1, 1]], [4]).fun)",
    "integrate": "import numpy as np\nfrom scipy.integrate import quad, dblquad, solve_ivp\nprint(quad(np.exp, 0, 1)[0], dblquad(lambda y, x: x * y, 0, 1, 0, 2)[0], solve_ivp(lambda t, y: -y, [0, 1], [1.0]).y[0][-1].round(4))",
    "special": "from scipy.special import comb, gamma, erf, zeta, factorial, jv\nprint(comb(50, 25, exact=True), gamma(5.5), erf(0.5), zeta(3), factorial(20, exact=True), jv(0, 1.0))",
    "stats": "from scipy import stats\nprint(stats.norm.cdf(1.96), stats.binom.pmf(3, 10, 0.5), stats.linregress([1, 2, 3], [2, 4, 6]).slope, stats.poisson.cdf(2, 3), stats.ttest_1samp([1., 2, 3], 0).pvalue)",
    "interpolate, signal, sparse, spatial": "import numpy as np\nfrom scipy import interpolate, signal, sparse, spatial\nprint(interpolate.interp1d([0, 1], [0, 2])(0.5), signal.convolve([1, 2], [1, 3]), sparse.eye(3).sum(), spatial.ConvexHull(np.array([[0, 0], [1, 0], [0, 1], [.2, .2]])).volume)",
    "graphs of scipy": "import numpy as np\nfrom scipy.sparse.csgraph import shortest_path\nfrom scipy.cluster.hierarchy import linkage\nfrom scipy.constants import c, pi\nprint(shortest_path(np.array([[0, 2, 0], [0, 0, 3], [0, 0, 0]]))[0], c, pi, linkage([[0.], [1.], [5.]]).shape)",
    "in two steps": "# Step 1\nimport scipy.optimize as so\nroot = so.brentq(lambda x: x**3 - 2, 0, 2)\n# Step 2\nfrom sympy import nsimplify, cbrt\nprint(round(root, 8), float(cbrt(2)).__round__(8))",
}

STANDARD: Final = {
    "itertools": "from itertools import *\nprint(sum(1 for p in permutations(range(7)) if p[0] < p[-1]), list(combinations('abcd', 2)), list(accumulate([1, 2, 3])), len(list(product('ab', repeat=5))), [len(list(g)) for k, g in groupby('aabbb')])",
    "fractions and decimals": "from fractions import Fraction as F\nfrom decimal import *\ngetcontext().prec = 60\nprint(F(1, 3) + F(1, 6), F('0.125'), Decimal(2).sqrt(), F(3.5).limit_denominator(10), Decimal(1) / 7, sum(F(1, k) for k in range(1, 30)))",
    "statistics and collections": "import statistics as st\nfrom collections import *\nprint(st.mean([1, 2, 4]), st.median([3, 1, 2]), st.pstdev([1, 2, 3]), st.mode('aab'), Counter('mississippi').most_common(2), deque([1, 2, 3], maxlen=2), OrderedDict(a=1), defaultdict(int))",
    "dates": "from datetime import *\nimport calendar\nd = date(2024, 2, 29)\nprint(d + timedelta(days=365), d.strftime('%A %d %B %Y'), (date(2025, 1, 1) - d).days, calendar.isleap(2100), calendar.monthrange(2024, 2), datetime(2024, 1, 1, tzinfo=timezone.utc).isoformat())",
    "math and cmath": "import math, cmath\nprint(math.comb(100, 50), math.gcd(12, 18), math.lcm(4, 6), math.isqrt(10**40), cmath.exp(1j * math.pi), math.factorial(25), math.dist((0, 0), (3, 4)), 1 / 3, 2 ** 0.5, 1e22, -7 // 2, -7 % 3, round(2.5), 0.1 + 0.2)",
    "integers of 4,000 digits": "print(2**13000, 10**4000 // 7)",
    "a cached recursion 400 deep": "from functools import lru_cache\n@lru_cache(maxsize=None)\ndef f(n): return n if n < 2 else f(n - 1) + f(n - 2)\nprint(f(400))",
    "a cached recursion 5,000 deep": "import sys\nfrom functools import lru_cache\nsys.setrecursionlimit(20000)\n@lru_cache(None)\ndef f(n): return 0 if n == 0 else f(n - 1) + n\nprint(f(5000))",
    "a recursion 100,000 deep": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(100_000))",
    "a recursion in a thread with a large stack": "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nt = threading.Thread(target=lambda: print(f(50_000)))\nt.start(); t.join()",
    "endless recursion that is caught": "def f(): return f()\ntry:\n    f()\nexcept RecursionError as e:\n    print(type(e).__name__, str(e)[:32])",
    "a large list": "print(list(range(5000)))",
    "a large dictionary and set": "print({k: k * k for k in range(500)}, sorted({k % 37 for k in range(1000)}), {'a', 'b', 'c', 'd', 'e'}, frozenset('xyz'))",
    "no input": "try:\n    n = int(input())\nexcept EOFError as e:\n    print('EOF', e)\nimport sys\nprint(repr(sys.stdin.read()), sys.stdin.isatty(), list(sys.stdin))",
    "a main function": "def main():\n    print('ran')\nif __name__ == '__main__':\n    main()\nprint(__name__)",
    "f-strings": "x, name = 1234567.891, 'a\\'b'\nprint(f'{x:,.2f} {x:e} {name!r:>10} {x=:.1f} {10:08b} {255:#x} {0.25:.0%} {\"nested\":^12}|', '%5.2f|%-5s' % (x, 'ab'), '{:>8}'.format(3))",
    "dataclasses": "from dataclasses import *\n@dataclass(order=True, frozen=True)\nclass P:\n    x: int\n    y: float = 0.5\n    z: list = field(default_factory=list, compare=False)\nprint(P(1), P(1) < P(2), replace(P(1), y=2), asdict(P(3)), hash(P(1)) == hash(P(1)))",
    "classes, pickled and copied": "import pickle, copy\nclass Node:\n    def __init__(self, v): self.v, self.next = v, None\n    def __repr__(self): return f'Node({self.v})'\nn = Node(1); n.next = Node(2)\nm = pickle.loads(pickle.dumps(n))\nprint(m, m.next, copy.deepcopy(n).next, type(m) is Node, Node.__module__, Node)",
    "typing and protocols": "from typing import *\nfrom abc import ABC, abstractmethod\nfrom enum import Enum, auto\nT = TypeVar('T')\nclass S(Generic[T]):\n    pass\nclass Color(Enum):\n    RED = auto()\nclass NT(NamedTuple):\n    a: int = 1\nx: Optional[List[int]] = None\ndef f(a: 'int', *, b: Dict[str, int] | None = None) -> Tuple[int, ...]: return (a,)\nprint(S[int], Color.RED, NT(), get_type_hints(f), __annotations__, f.__annotations__)",
    "names kept across steps": "# Step 1\ncount = 0\ndef bump():\n    global count\n    count += 1\n# Step 2\nbump(); bump()\nxs = [count]\n# Step 3\nxs.append(bump())\nprint(count, xs, [n for n in globals() if not n.startswith('_')])",
    "exit()": "print('before')\nexit()\nprint('after')",
    "quit(0) and sys.exit in a function": "import sys\ndef stop():\n    print('stop')\n    sys.exit(0)\ntry:\n    stop()\nexcept SystemExit as e:\n    print('caught', e.code)\nquit(0)",
    "exit with a failure": "print('before')\nraise SystemExit(3)",
    "an uncaught exception": "print('before')\nprint([1, 2][5])",
    "the text of exceptions": "for t in ('1/0', 'int(\"x\")', '[][1]', '{}[\"k\"]', 'None.a', 'undefined', 'len(5)', '1 + \"a\"', 'assert_'):\n    try:\n        eval(t)\n    except Exception as e:\n        print(type(e).__name__, e)",
    "generators and closures": "def primes():\n    n, seen = 2, []\n    while True:\n        if all(n % p for p in seen):\n            seen.append(n)\n            yield n\n        n += 1\ng = primes()\nprint([next(g) for _ in range(20)])\ndef adder(n): return lambda x: x + n\nprint([adder(k)(1) for k in range(3)], (lambda *a, **k: (a, k))(1, b=2))",
    "heaps, bisection, strings": "import heapq, bisect, string, re, textwrap, operator\nh = [5, 1, 4]\nheapq.heapify(h)\nprint(heapq.heappop(h), bisect.bisect([1, 3, 5], 3), string.ascii_lowercase, re.findall(r'\\d+', 'a1b22'), re.sub('(a)(b)', r'\\2\\1', 'abab'), textwrap.fill('word ' * 20, 30), operator.itemgetter(1)([1, 2]))",
    "dynamic programming": "from functools import cache, reduce\n@cache\ndef ways(n, k): return 1 if n == 0 else 0 if n < 0 or k == 0 else ways(n - k, k) + ways(n, k - 1)\nprint(ways(200, 200), reduce(lambda a, b: a * b, range(1, 20)))",
    "match, walrus, unpacking": "def f(p):\n    match p:\n        case (0, y): return y\n        case {'k': v}: return v\n        case [a, *rest]: return rest\n        case str() as s if len(s) > 2: return s\n    return None\nprint(f((0, 5)), f({'k': 2}), f([1, 2, 3]), f('abc'), [y := 3, y**2], *range(3), sep='|', end='!\\n')",
    "matching and global names": "total = 0\nfor i in range(1000):\n    if i % 3 == 0 or i % 5 == 0:\n        total += i\nelse:\n    print('done')\nprint(total, i, vars().get('total'), dir()[-2:], globals() is vars(), __import__('os').path.isabs(__file__) in (True, False))",
    "eval, exec and compile": "exec('a = 6\\ndef g(): return a * 7')\nprint(g(), eval('a + 1'), eval(compile('a * 2', 'x', 'eval')), __import__('math').pi)\nclass Meta(type):\n    pass\nprint(Meta('X', (), {}).__module__, type('Y', (), {})())if 0 else print(Meta('X', (), {}))",
    "strings of Unicode": "print('π ≈ 3.14, √2, ∞, 数学, \\U0001F600', 'ß'.upper(), len('é'), 'naïve'.encode(), chr(960), '\\t|\\r\\n'.encode())",
    "output without a line's end": "import sys\nsys.stdout.write('a')\nprint('b', end='')\nsys.stderr.write('not shown')\nprint('c', file=sys.stderr)\nprint(1, 2, sep=',', end='')",
    "files of its own": "import json, csv, os, tempfile\nwith open('data.txt', 'w') as f:\n    f.write('1,2\\n3,4\\n')\nprint(list(csv.reader(open('data.txt'))), json.loads(json.dumps({'a': [1, None, True]})), os.path.exists('none'), os.path.basename(os.path.join('a', 'b.txt')))\nwith tempfile.TemporaryFile('w+') as t:\n    t.write('x'); t.seek(0); print(t.read())\nos.remove('data.txt')",
    "bits and bases": "print(bin(10), hex(255), int('ff', 16), int('1010', 2), (1023).bit_length(), (5).to_bytes(2, 'big'), 0b1010 ^ 0b0110, ~5, 1 << 70, bin(255).count('1'), divmod(-7, 2), pow(3, -1, 11), pow(2, 10**6, 10**9 + 7))",
    "sorting with keys": "words = ['pear', 'fig', 'apple']\nprint(sorted(words, key=lambda w: (len(w), w)), max(words, key=len), list(zip(words, range(3))), list(enumerate(words, 1)), dict(zip('ab', [1, 2])), list(map(str.upper, words)), any([]), all([]), sorted([3, 1, 2], reverse=True))",
    "a brute force": "print(max((a * b for a in range(900, 1000) for b in range(900, 1000) if str(a * b) == str(a * b)[::-1])))",
    "a random walk": "import random\nrandom.seed(42)\nprint([random.randint(1, 6) for _ in range(10)], random.choice('abc'), random.gauss(0, 1), random.shuffle(x := list(range(5))), x, random.Random(1).random())",
    "complex output of floats": "print(1e16, 1e15, 123456789.123456789, 1/65536, 5e-324, float('inf'), float('nan'), -0.0, 1_000_000.0, 3.0, 2/3, complex(1, -2), 7.0 // 2, round(1/3, 4), 1e100)",
    "a step that continues a loop": "# Step 1\nacc = []\nfor k in range(3):\n    acc.append(k)\n# Step 2\nacc = [a + 1 for a in acc]\n# Step 3\nprint(acc, k)",
    "a docstring and comments": "'''A module.'''\n# a comment\nprint(__doc__)\ndef f():\n    '''Doc.'''\nprint(f.__doc__, f.__qualname__, f.__module__)",
    "time is read and not shown": "import time, timeit\nt = time.perf_counter()\ntime.sleep(0.01)\nprint(time.perf_counter() > t, time.time() > 1e9, timeit.timeit('1+1', number=10) >= 0)",
    "the source of its own functions": "import inspect\ndef f(x):\n    return x + 1\nprint(inspect.signature(f), inspect.isfunction(f), f.__code__.co_varnames, f.__code__.co_firstlineno)",
    "logging and warnings": "import logging, warnings\nlogging.basicConfig()\nlogging.warning('to standard error')\nwarnings.warn('as well')\nwith warnings.catch_warnings(record=True) as w:\n    warnings.simplefilter('always')\n    warnings.warn('kept')\nprint(len(w), w[0].message)",
    "uuid, hashes, encodings": "import hashlib, base64, zlib, uuid, binascii, struct\nprint(hashlib.md5(b'a').hexdigest(), hashlib.sha256(b'').hexdigest()[:8], base64.b64encode(b'abc'), zlib.crc32(b'a'), uuid.uuid5(uuid.NAMESPACE_DNS, 'a'), struct.pack('<i', 5), hash(10**20), hash('text'))",
    "shadowed names": "list = [3, 1]\nsum = 0\nfor max in list: sum += max\nprint(sum, list)\nimport builtins\nprint(builtins.sum(list), builtins.max(list))",
    "arrays and matrices by hand": "from array import array\nM = [[1, 2], [3, 4]]\nT = list(map(list, zip(*M)))\nP = [[sum(a * b for a, b in zip(r, c)) for c in zip(*M)] for r in M]\nprint(T, P, array('i', [1, 2]), M[0][::-1], [row[:] for row in M], sum(map(sum, M)))",
    "a game tree": "from functools import lru_cache\n@lru_cache(None)\ndef wins(n): return any(not wins(n - k) for k in (1, 3, 4) if k <= n)\nprint([n for n in range(30) if not wins(n)])",
    "strings to numbers": "print(float('1e5'), int('-12'), float('  3.5 '), int(3.99), int('1_000'), complex('1+2j'), ord('a'), '7'.zfill(3), '3.0'.isdigit(), str(0.1), repr('a'))",
}

CONCURRENT: Final = {
    "threads": "import threading\nlock, total = threading.Lock(), [0]\ndef add(n):\n    for _ in range(n):\n        with lock: total[0] += 1\nts = [threading.Thread(target=add, args=(1000,)) for _ in range(16)]\n[t.start() for t in ts]; [t.join() for t in ts]\nprint(total)",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor, as_completed\nwith ThreadPoolExecutor(max_workers=16) as pool:\n    print(sum(pool.map(lambda x: x * x, range(1000))), sorted(f.result() for f in as_completed([pool.submit(pow, 2, k) for k in range(5)])))",
    "a pool of multiprocessing.dummy": "from multiprocessing.dummy import Pool\nfrom multiprocessing.pool import ThreadPool\nwith Pool(4) as p: print(p.map(abs, [-1, -2]))\nwith ThreadPool(4) as p: print(p.map(abs, [-3]))",
    "a pool of processes": "from multiprocessing import Pool, cpu_count\ndef f(x): return x * x\nif __name__ == '__main__':\n    with Pool() as p: print(sum(p.map(f, range(1000))))\n    with Pool(4) as p: print(p.starmap(pow, [(2, 3)]), list(p.imap(f, range(5))), p.apply_async(f, (5,)).get())\nprint(cpu_count() > 0)",
    "an executor of processes": "from concurrent.futures import ProcessPoolExecutor, as_completed\ndef f(x): return x + 1\nwith ProcessPoolExecutor() as pool: print(list(pool.map(f, range(5))))\nwith ProcessPoolExecutor(3) as pool: print(sorted(x.result() for x in as_completed([pool.submit(f, k) for k in range(9)])))",
    "locks, queues and events of processes": "import multiprocessing as mp\ndef f(q, lock, e):\n    with lock, lock: q.put([1, 2])\n    e.wait(); q.put('end')\nq, lock, e = mp.Queue(), mp.RLock(), mp.Event()\np = mp.Process(target=f, args=(q, lock, e)); p.start(); print(q.get()); e.set(); print(q.get()); p.join(); print(p.exitcode, e.is_set())\nl = mp.Lock(); print(l.acquire(), l.acquire(timeout=0.01), l.release())\ntry:\n    l.release()\nexcept ValueError as error:\n    print(error)",
    "queues and events": "import queue, threading\nq, done = queue.Queue(), threading.Event()\ndef worker():\n    while (x := q.get()) is not None: out.append(x * 2)\n    done.set()\nout = []\nthreading.Thread(target=worker).start()\nfor k in range(5): q.put(k)\nq.put(None); done.wait(10)\nprint(out)",
    "asyncio": "import asyncio\nasync def f(k):\n    await asyncio.sleep(0.001)\n    return k * k\nasync def main():\n    print(await asyncio.gather(*(f(k) for k in range(10))), await asyncio.to_thread(sum, [1, 2]))\n    q = asyncio.Queue(); await q.put(1); print(await q.get())\n    try:\n        await asyncio.wait_for(asyncio.sleep(10), 0.01)\n    except asyncio.TimeoutError:\n        print('timeout')\nasyncio.run(main())",
    "a forked process": "import os\nr, w = os.pipe()\nif os.fork() == 0:\n    os.write(w, b'from the child'); os._exit(0)\nos.wait()\nprint(os.read(r, 100))",
    "a process with a pipe": "import multiprocessing as mp\ndef f(c): c.send([1, 2]); c.close()\nif __name__ == '__main__':\n    ctx = mp.get_context('fork')\n    a, b = ctx.Pipe()\n    p = ctx.Process(target=f, args=(b,)); p.start(); print(a.recv()); p.join(); print(p.exitcode)",
    "an alarm": "import signal\ndef late(*_): raise TimeoutError('too late')\nsignal.signal(signal.SIGALRM, late); signal.setitimer(signal.ITIMER_REAL, 0.05)\ntry:\n    signal.pause()\nexcept TimeoutError as e:\n    print(e)",
}

NETWORKX: Final = {
    "graphs": "import networkx as nx\ng = nx.petersen_graph()\nprint(nx.diameter(g), nx.is_planar(g), nx.shortest_path(g, 0, 7), sum(nx.triangles(g).values()), round(nx.pagerank(g)[0], 6))",
}

PROGRAMS: Final = {
    f"{group}: {name}": text
    for group, table in {
        "linear algebra": LINEAR_ALGEBRA,
        "sympy": SYMPY,
        "numpy": NUMPY,
        "scipy": SCIPY,
        "standard library": STANDARD,
        "concurrent": CONCURRENT,
        "networkx": NETWORKX,
    }.items()
    for name, text in table.items()
}


def steps_of(program: str) -> list[str]:
    """Cut a program into its steps."""
    return [step for step in re.split(r"^(?=# Step)", program, flags=re.MULTILINE) if step]
