# Walks up from the program into the frames of what runs it.
import sys
def above():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
