"""gRPC: the clients that implement ``rstar.interfaces``, and the part that all servers share."""
