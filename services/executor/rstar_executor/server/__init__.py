"""The executor's server process: gRPC, the queue, the cache and the clients of the wardens. It never runs a program."""
