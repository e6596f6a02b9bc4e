# Changes the locale, and so the format of numbers.
# expect: ok
import locale
for name in ("", "C.UTF-8", "de_DE.UTF-8", "tr_TR.UTF-8"):
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        pass
