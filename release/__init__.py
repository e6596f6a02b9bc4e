"""Make a release from a commit of main: images, SBOMs, charts, distributions, tag. For maintainers; not part of the distribution.

``python -m release prepare VERSION`` writes the version into the sources; ``python -m release publish VERSION`` builds and
publishes that commit. See docs/releasing.md.
"""
