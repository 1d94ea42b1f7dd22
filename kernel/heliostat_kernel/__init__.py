"""The Heliostat kernel: IPython's kernel with a runtime behind it.

Nothing is imported here: ``python -m heliostat_kernel`` reads this file before it has taken
the working directory off ``sys.path``.
"""
