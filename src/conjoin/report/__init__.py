"""Reports: tables and plots, made from JSON records."""
