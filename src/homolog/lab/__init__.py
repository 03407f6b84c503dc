"""Ground truth by real training: tiny models whose ancestry is known because they were made here.

The lab needs the extra ``lab`` (torch). It never imports a detector, and no detector imports it.
"""
