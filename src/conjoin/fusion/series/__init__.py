"""Values, quantiles and time series: combining forecasts, distributions, hierarchies; conformal answers."""
