# Puts a module of its own before the library's.
# expect: ok
import sys
with open("statistics.py", "w") as file:
    file.write("print('LEAKED')")
with open("this.py", "w") as file:
    file.write("print('LEAKED')")
sys.path.insert(0, ".")
sys.path_importer_cache.clear()
sys.meta_path.insert(0, type("Finder", (), {"find_spec": staticmethod(lambda *_: None)}))
