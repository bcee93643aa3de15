"""The import name of crowd-kit over conjoin: just enough for its own tests of aggregation."""
