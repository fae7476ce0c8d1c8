"""Rate, distortion and speed of our codec beside classical ones, by the field's definitions (see metrics.py and bd.py)."""
