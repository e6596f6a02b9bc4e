# Turns every warning into an error.
# expect: ok
import warnings
warnings.simplefilter("error")
warnings.showwarning = None
