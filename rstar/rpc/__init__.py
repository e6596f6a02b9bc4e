"""The wire: clients that implement ``rstar.interfaces`` over gRPC, and the skeleton every service runs in."""
