"""One page that shows a kernel and where a run's time went: self-contained HTML with drawings as SVG.

`subject.py` holds what a page is about, the other modules one section each, `page.py` puts them together.
"""
