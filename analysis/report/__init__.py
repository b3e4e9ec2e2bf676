"""The report of a run: one page that people read and decide on, from its archive alone.

    archive -> facts (`facts.build_facts`) -> pictures (`plots`) -> page, Markdown -> files

Facts are all computed before anything is drawn; drawing and laying out compute nothing. The
same archive, and the same baseline beside it, give the same bytes: there is no clock, no
path and no random number in a report that is not seeded by the run's id.
"""
