"""The zygotes and the processes forked from them, which run untrusted programs. Standard library only."""
