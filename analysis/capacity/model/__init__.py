"""The capacity model, in the order of the data.

`loads` takes points from judged runs; `usl` fits the Universal Scalability Law to them;
`intervals` says how far the fit may be trusted and `estimates` what is reported of it;
`questions` asks it how many nodes a rate takes; `costs` reads prices and `bill` applies them;
`model` puts it together, `pages` and `document` show it.
"""
