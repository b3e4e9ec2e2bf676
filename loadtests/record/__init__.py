"""Archive of a run: histograms, windows, manifest, and their files."""
