# Has a library in C open a file of the machine.
# expect: ok exception
# stdout: refused
import sqlite3
try:
    connection = sqlite3.connect("file:/etc/passwd?mode=ro", uri=True)
    connection.execute("select * from x")
    print("LEAKED")
except sqlite3.Error:
    print("refused")
