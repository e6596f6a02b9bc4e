"""The warden process: forks one process per program from a zygote, watches it and reports its status. Standard library only."""
