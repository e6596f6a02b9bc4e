# Fills the disk with files that are each small enough.
# expect: ok
# stdout: done
# limits: file_mib=2
try:
    for k in range(100):  # 100 MiB, wherever it runs
        with open(f"f{k}", "wb") as file:
            file.write(bytes(1 << 20))
except OSError:
    pass
print("done")
