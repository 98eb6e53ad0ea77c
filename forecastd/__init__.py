"""forecastd: streaming time-series forecasts with one recurrent state per series."""

__version__ = "0.1.0"
