"""`python -m forecast_cli` does the same as `forecast`."""

from forecast_cli.main import run

if __name__ == "__main__":
    run()
