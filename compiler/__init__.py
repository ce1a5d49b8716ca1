"""The compiler: passes, pipeline, driver, artifacts, options and the command line."""
