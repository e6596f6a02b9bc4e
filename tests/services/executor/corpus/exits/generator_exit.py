# Raises GeneratorExit.
# expect: exception
raise GeneratorExit
