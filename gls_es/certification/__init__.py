"""Certification: which images keep their class on all of their L∞ ball, and how that is known.

A cascade of an attack and of bounds decides image by image (``certifier``); what is certified is the network as it is
executed in floating point (``rounding``), on the exact real ball (``ball``).
"""

from gls_es.basics.intervals import wilson_interval as wilson_interval
from gls_es.basics.property import Property as Property
from gls_es.certification.attack import AttackOptions as AttackOptions
from gls_es.certification.attack import AttackResult as AttackResult
from gls_es.certification.attack import find_counterexamples as find_counterexamples
from gls_es.certification.certifier import certify as certify
from gls_es.certification.decision import Decision as Decision
from gls_es.certification.decision import decide as decide
from gls_es.certification.enclosed import decide_enclosed as decide_enclosed
from gls_es.certification.radii import RadiusReport as RadiusReport
from gls_es.certification.radii import certified_radii as certified_radii
from gls_es.certification.records import read_records as read_records
from gls_es.certification.report import CertificationReport as CertificationReport
from gls_es.certification.report import StageSummary as StageSummary
from gls_es.certification.report import Verdict as Verdict
from gls_es.certification.rounding import outward_ball as outward_ball
from gls_es.certification.rounding import sound_margins as sound_margins
