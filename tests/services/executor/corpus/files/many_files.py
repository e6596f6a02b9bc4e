# Many small files.
# expect: ok
# stdout: done
try:
    for k in range(3000):
        open(f"f{k}", "w").close()
except OSError:
    pass
print("done")
