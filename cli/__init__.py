"""The command line of gls-es. A command imports torch when it runs, not before."""
