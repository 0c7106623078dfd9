"""The offline vision models: built once from published weights, cached, and verified each time they are loaded.

`python -m imago.ai.offline.models` builds them. Building needs the extra `model`; running needs only onnxruntime.
"""
