"""Network building blocks: slimmable and exact layers, width selection, quantisers, motion compensation."""
