# Takes all rights from its directory and from what is in it.
# expect: ok exception
import os
os.makedirs("a/b")
open("a/b/c", "w").close()
os.chmod("a/b/c", 0)
os.chmod("a/b", 0)
os.chmod("a", 0)
os.chmod(".", 0)
