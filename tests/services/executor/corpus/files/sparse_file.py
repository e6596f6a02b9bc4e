# Makes a file of a terabyte that holds nothing.
# expect: exception
# limits: file_mib=4
with open("f", "wb") as file:
    file.truncate(1 << 40)
