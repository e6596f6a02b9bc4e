# Writes a file larger than allowed.
# expect: exception
# limits: file_mib=4
with open("f", "wb") as file:
    for _ in range(64):
        file.write(bytes(1 << 20))
