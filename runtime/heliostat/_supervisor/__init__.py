"""The process that owns a runtime: boots Ray, resizes it, measures it, takes it down.

It is a process of its own because a notebook's kernel cannot do this: one C call that holds
the GIL silences every thread of a kernel, a kernel killed for lack of memory cannot say so,
and Ray started by a kernel outlives it in pieces.
"""
