"""The charts of the report as data: Vega-Lite specifications, built with Altair.

Colours are the custom properties of the page (``var(--pair)``), so the charts follow light, dark and print without being drawn
again. No string of a checkpoint enters an expression or a field name: they are values only, which Vega shows as text.
"""
