"""Experiments as data: the paper's comparison, run cell by cell, resumable, with what repeats a number."""

from gls_es.experiments.aggregate import Row as Row
from gls_es.experiments.aggregate import aggregate as aggregate
from gls_es.experiments.aggregate import markdown as markdown
from gls_es.experiments.full import FULL as FULL
from gls_es.experiments.paired import Comparison as Comparison
from gls_es.experiments.paired import compare as compare
from gls_es.experiments.pictures import save_table as save_table
from gls_es.experiments.plan import Plan as Plan
from gls_es.experiments.plan import read_plan as read_plan
from gls_es.experiments.planning import make_plan as make_plan
from gls_es.experiments.processes import run_in_processes as run_in_processes
from gls_es.experiments.results import read_results as read_results
from gls_es.experiments.runner import Outcome as Outcome
from gls_es.experiments.runner import run_plan as run_plan
from gls_es.experiments.tables import TABLES as TABLES
from gls_es.experiments.tables import Cell as Cell
from gls_es.experiments.tables import Table as Table
from gls_es.experiments.tuning import Search as Search
from gls_es.experiments.tuning import Tuning as Tuning
from gls_es.experiments.tuning import front_table as front_table
from gls_es.experiments.tuning import make_tuning as make_tuning
