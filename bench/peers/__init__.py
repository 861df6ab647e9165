"""flowq beside fourteen other queues, on the same work in the same run: ``python -m bench peers`` (see ``command.py``).

Each peer is one program in ``adapters/``, which runs in an environment of its own and knows nothing of this harness beyond
``adapters/adapter.py``; bodies write down themselves that and when they ran.
"""
