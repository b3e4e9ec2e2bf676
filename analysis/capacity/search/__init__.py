"""Capacity search: the largest rate that holds a scenario's objectives, as two bounds.

    trials so far -> belief -> bounds -> decide -> the next trial, or the end

Everything here is a pure function of the trials: the simulation of the tests and the runner
of `headroom capacity search` drive the same code, and a search can be taken up again from
its file.

What it keeps of RFC 9971 (Multiple Loss Ratio Search): several goals share every trial; a
bound is a rate that was tried, never one that was computed; a lower bound is below every
upper one, whatever order the outcomes have; bounds that cannot be found are said to be
missing. What it adds: how probable a bound is. RFC 9971 lets a majority of trials decide,
which repeats well and can be wrong: with the controller of its authors (PyPI MLRsearch
1.2.1, half of the trials may exceed, a width of 5 %) the bounds of 200 simulated searches
held the true limit in 83 % at 2 % noise and five trials a rate, in 60 % at 5 % noise. It
also begins at the highest rate, knows no void trial, and loses its bounds when it is
interrupted. So the controller is our own.
"""
