"""ONNX files: the initialisers of a graph in place, under the names that their weights had before the export."""
