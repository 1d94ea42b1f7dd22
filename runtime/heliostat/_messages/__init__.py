"""Every typed message between the parts of Heliostat, defined once.

The supervisor serves these as JSON on its Unix socket; the kernel, the magics and the
Jupyter server extension decode them with the same classes; the TypeScript types of the
lab extension and the OpenAPI document are generated from them (``make types``).

Conventions: times are Unix seconds, sizes are bytes, durations are seconds. An unknown
value is ``None``, never zero. Every struct is frozen and refuses unknown fields, so a
malformed message is an error at the border and not a surprise later.
"""
