"""An ``nn.Module`` as a small graph of affine and ReLU nodes, and as a function of its flat weight vector."""

from gls_es.network.lighting import Lighting as Lighting
from gls_es.network.network import Network as Network
from gls_es.network.network import Normalize as Normalize

__all__ = ["Lighting", "Network", "Normalize"]
