"""The page of `fic-runtime html` and its engine, as files in `built`; `fic_runtime.pages` reads them."""
