"""PyTorch's own files (``.bin``, ``.pt``, ``.pth``), in both layouts, and a reader of pickles that runs nothing."""
