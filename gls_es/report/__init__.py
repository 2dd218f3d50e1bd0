"""One HTML file that shows a run, or several side by side: curves, certification, images, settings."""

from gls_es.report.page import write_report as write_report
from gls_es.report.run import Records as Records
from gls_es.report.run import RunData as RunData
from gls_es.report.run import read_run as read_run
from gls_es.report.run import read_runs as read_runs
