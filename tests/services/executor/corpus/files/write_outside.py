# Writes into every place where programs usually may.
# expect: ok
# stdout: refused
import os
for folder in ("/tmp", "/var/tmp", "/dev/shm", "/run", "/", "/root", "/home", "/usr/lib", os.path.dirname(os.__file__), os.path.dirname(os.getcwd())):
    try:
        with open(f"{folder}/rstar-corpus-file", "w") as file:
            file.write("x")
        print("LEAKED", folder)
    except OSError:
        pass
print("refused")
