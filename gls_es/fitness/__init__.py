"""The fitness: losses of members on a minibatch, one loss a file, and their mean gradient within a budget of memory."""

from gls_es.fitness.choice import chosen as chosen
from gls_es.fitness.gradient import mean_gradient as mean_gradient
from gls_es.fitness.minibatch import Minibatch as Minibatch
from gls_es.fitness.stage import Attack as Attack
from gls_es.fitness.stage import Stage as Stage
from gls_es.fitness.table import LOSSES as LOSSES
from gls_es.fitness.table import active_loss as active_loss
from gls_es.fitness.table import image_losses as image_losses
from gls_es.fitness.table import loss_named as loss_named
from gls_es.fitness.table import member_losses as member_losses
