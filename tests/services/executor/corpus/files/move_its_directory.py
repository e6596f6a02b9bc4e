# Moves its working directory away.
# expect: ok exception
import os
here = os.getcwd()
os.rename(here, here + "-rstar-corpus-moved")
