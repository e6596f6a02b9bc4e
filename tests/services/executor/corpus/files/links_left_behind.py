# Leaves links that the clean-up must not follow.
# expect: ok
# stdout: done
import os
os.symlink("/", "root")
os.symlink("/tmp", "tmp")
os.makedirs("a/b")
os.symlink("/tmp/rstar-corpus-secret", "a/b/secret")
os.symlink("a", "circle")
print("done")
