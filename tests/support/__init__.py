"""What tests share: servers, toy models, worlds and the pieces of a cluster. Nothing in here is a test."""
