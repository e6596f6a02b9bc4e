r"""Readers of problems: from files, lines and data sets of the hub.

========= =================================================================================================
jsonl     a row with a question, and an answer or a worked solution, by their common names (below)
gsm8k     {"question", "answer": "... #### 18"}
math      {"problem" or "question", "answer" or "solution" with a \boxed{}} (MATH and MATH-500)
countdown {"nums": [8, 2, 6, 4], "target": 24}, or a table with the column Puzzles ("1 1 4 6", target 24)
========= =================================================================================================

A format is the form of a row. The reader finds the container from the file's content and suffix. It may be JSON lines, a
JSON list, CSV, TSV, Parquet or ASDiv's XML, each also with gzip, or a folder of JSON files.

``jsonl`` takes the first field with a value of *question, problem, query, prompt, instruction, input*, and of *answer,
final_answer, expected_answer, reference_answer, correct_answer, ground_truth, gt, gold, target*, whatever their case.
The answer may be a number or a list of answers, and may stand after ``####``, in a ``\boxed{}`` or between dollar signs.
Without one, it is what *solution, response, output, completion, generated_solution, gt_cot* or *rationale* ends with.
``"answer": null`` says that it is unknown. Other fields are ignored, except *id* or *unique_id*, *data*, *synthetic*, and
*body* (ASDiv) or *context* (OlympiadBench), which stand before the question.

A problem's id is the row's own, else a hash of its content: it stays the same when the file is shuffled or cut. A bad row
is an error of the whole data set, which lists the first five bad rows; or it is left out and counted.
"""

from rstar.readers.collect import OnBadRow, Reading
from rstar.readers.data_sets import data_set_names, merged
from rstar.readers.files import read_file, read_problems
from rstar.readers.formats import FORMATS
from rstar.readers.hub import read_hub, read_hub_set

__all__ = [
    "FORMATS",
    "OnBadRow",
    "Reading",
    "data_set_names",
    "merged",
    "read_file",
    "read_hub",
    "read_hub_set",
    "read_problems",
]
