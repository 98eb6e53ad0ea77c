"""Batch scoring: a data set in, a Parquet file of forecasts out."""
