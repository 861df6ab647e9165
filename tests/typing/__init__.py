"""What users' editors and type checkers see of flowq. Read by mypy --strict and pyright, never run.

A ``# type: ignore[code]`` here is an assertion: the line must be refused. If it no longer is, the ignore itself becomes an error,
for mypy by ``warn_unused_ignores``, for pyright by ``reportUnnecessaryTypeIgnoreComment``.
"""
