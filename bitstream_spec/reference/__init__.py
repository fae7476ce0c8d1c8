"""Reference decoder: the specification in plain Python and numpy (int64), slow and short, one module for each chapter.

Independent of the product: imports neither neuralcodec nor torch nor constriction. To use it, put ``bitstream_spec`` on
``sys.path`` and ``import reference``; ``decode.py`` is a command.
"""
