r"""Readers of problems: from files, lines and data sets of the hub.

========= =================================================================================================
jsonl     {"question" or "problem", "answer", "id"?, "data"?, "synthetic"?}; "answer": null is allowed
gsm8k     {"question", "answer": "... #### 18"}
math      {"problem" or "question", "answer" or "solution" with a \boxed{}, "unique_id"?} (MATH and MATH-500)
countdown {"nums": [8, 2, 6, 4], "target": 24}, or a CSV with the column Puzzles ("1 1 4 6", target 24)
========= =================================================================================================

Other keys are ignored. A problem's id is the row's ``id`` or ``unique_id``, else a hash of its content: it stays the
same when the file is shuffled or cut. A bad row is an error of the whole file, which lists the first five bad rows.
"""

from rstar.readers.files import read_problems
from rstar.readers.formats import FORMATS
from rstar.readers.hub import read_hub

__all__ = ["FORMATS", "read_hub", "read_problems"]
