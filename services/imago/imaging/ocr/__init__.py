"""Read text: find its lines (`finding`), straighten the page (`straightening`), and read it (`page`).

`tesseract` and `paddle` hold one engine each. Engines and detectors are opened once per process.
"""
