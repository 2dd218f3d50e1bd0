"""Exchange formats: networks as ONNX and safetensors files, specifications as VNN-LIB; their libraries are extras."""

from gls_es.formats.capabilities import CAPABILITIES as CAPABILITIES
from gls_es.formats.card import ModelCard as ModelCard
from gls_es.formats.files import write_text as write_text
from gls_es.formats.fingerprint import fingerprint as fingerprint
from gls_es.formats.onnx_enclosing import load_enclosed as load_enclosed
from gls_es.formats.onnx_reading import OnnxModel as OnnxModel
from gls_es.formats.onnx_reading import check_declared as check_declared
from gls_es.formats.onnx_reading import load_onnx as load_onnx
from gls_es.formats.onnx_reading import replaying as replaying
from gls_es.formats.onnx_writing import save_onnx as save_onnx
from gls_es.formats.runtime import OnnxRuntime as OnnxRuntime
from gls_es.formats.vnnlib import Query as Query
from gls_es.formats.vnnlib import read_query as read_query
from gls_es.formats.vnnlib import read_vnnlib as read_vnnlib
from gls_es.formats.vnnlib_writing import result_text as result_text
from gls_es.formats.vnnlib_writing import robustness_vnnlib as robustness_vnnlib
from gls_es.formats.vnnlib_writing import write_instances as write_instances
from gls_es.formats.vnnlib_writing import write_result as write_result
from gls_es.formats.weights import ProblemWeights as ProblemWeights
from gls_es.formats.weights import load_safetensors as load_safetensors
from gls_es.formats.weights import read_safetensors as read_safetensors
from gls_es.formats.weights import save_safetensors as save_safetensors
