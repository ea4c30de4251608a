"""`nasdsl explore`: a page on which decisions are pinned by clicking, and what is left is told at once."""
