r"""Reading problems: files, lines and hub data sets to ``Problem``.

========= =================================================================================================
jsonl     {"question" or "problem", "answer", "id"?, "data"?, "synthetic"?}; "answer": null is allowed
gsm8k     {"question", "answer": "... #### 18"}
math      {"problem" or "question", "answer" or "solution" with a \boxed{}, "unique_id"?} (MATH and MATH-500)
countdown {"nums": [8, 2, 6, 4], "target": 24}, or a CSV with the column Puzzles ("1 1 4 6", target 24)
========= =================================================================================================

Other keys are ignored. A problem's id is the row's own ``id`` or ``unique_id``, else a hash of what the problem says:
it survives shuffling and cutting a file. The package refuses a file with a bad row as a whole, naming up to five of
them, before any work starts.
"""

from rstar.readers.files import read_problems
from rstar.readers.formats import FORMATS
from rstar.readers.hub import read_hub

__all__ = ["FORMATS", "read_hub", "read_problems"]
