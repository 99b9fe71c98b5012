"""What each family of ATen operators does to symbolic tensors, by name."""
