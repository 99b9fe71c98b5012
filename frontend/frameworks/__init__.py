"""One module per framework whose trained networks are lifted."""
