# Walks up from the program into the frames of the code that runs it.
import sys
def above():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
