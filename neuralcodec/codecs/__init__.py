"""Systems: one file for each model, built from nn; symbols from and to the entropy room."""
