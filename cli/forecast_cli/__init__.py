"""The `forecast` and `forecastd` commands: thin, one file a command."""
