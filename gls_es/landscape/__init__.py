"""The robust loss along lines through the weights, raw and smoothed: what makes a relaxation hard to train on."""

from gls_es.landscape.directions import gradient_direction as gradient_direction
from gls_es.landscape.directions import random_direction as random_direction
from gls_es.landscape.lines import Line as Line
from gls_es.landscape.statistics import Statistics as Statistics
from gls_es.landscape.statistics import statistics as statistics
from gls_es.landscape.survey import Landscape as Landscape
from gls_es.landscape.survey import survey as survey
