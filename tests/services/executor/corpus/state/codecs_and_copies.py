# Registers codecs, error handlers and copy functions.
# expect: ok exception
import codecs, copyreg
codecs.register(lambda name: None)
codecs.register_error("replace", lambda error: ("LEAKED", error.end))
codecs.register_error("strict", lambda error: ("LEAKED", error.end))
copyreg.pickle(dict, lambda value: 1 / 0)
print("a\ud800b")
