"""Change points in a scenario's history, in the order of the data.

`digests` reads what a history needs of each archive and remembers it; `history` puts
comparable runs in a row; `energy` and `change_points` find where a series changed; `series`
applies them to every stage and measure; `pages` and `plot` show the result.
"""
