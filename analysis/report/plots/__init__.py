"""One module a figure: values in, a `Picture` (SVG with title, caption, source) out."""
