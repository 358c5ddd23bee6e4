"""The page of `fic-runtime html` and its engine, in `built`; see `fic_runtime.bundle.pages`."""
