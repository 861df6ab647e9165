"""Serve the web app. ``python -m examples.webapp [--port 8000]``, then ``curl --data-binary @README.md localhost:8000/texts``."""

from __future__ import annotations

import argparse

import uvicorn

from examples.webapp.app import app

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.webapp", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, port=parser.parse_args().port)
