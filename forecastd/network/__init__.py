"""Recurrent networks as torch modules without I/O: state goes in, state comes out."""
