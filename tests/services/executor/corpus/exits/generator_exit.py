# Raises what ends a generator.
# expect: exception
raise GeneratorExit
