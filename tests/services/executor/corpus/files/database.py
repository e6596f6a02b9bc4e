# A database in a file, with its locks and journals.
# expect: ok exception
import sqlite3
connection = sqlite3.connect("x.db")
connection.execute("create table t(x)")
connection.execute("insert into t values (42)")
connection.commit()
print(connection.execute("select x from t").fetchall())
