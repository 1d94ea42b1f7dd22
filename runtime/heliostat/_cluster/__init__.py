"""The one seam to Ray. Nothing outside this package touches Ray's internals."""
