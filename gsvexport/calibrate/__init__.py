"""What the stages of a voice really see, and the ranges of integer activations that follow from it.

result = calibrate(source_folder, Settings(corpus="voice", sentences=36))
ranges = observe(float_graph, tensor_names, result.feeds["vocoder"], Estimator("percentile"))
"""

from gsvexport.calibrate.calibrated import Calibrated
from gsvexport.calibrate.coverage import Coverage, Finding
from gsvexport.calibrate.probe import observe
from gsvexport.calibrate.ranges import Estimator, Observer
from gsvexport.calibrate.run import CalibrationResult, Spoken, calibrate, read_result, refuse_findings
from gsvexport.calibrate.settings import Settings
from gsvexport.calibrate.vocoded import Vocoded

__all__ = [
    "Calibrated",
    "CalibrationResult",
    "Coverage",
    "Estimator",
    "Finding",
    "Observer",
    "Settings",
    "Spoken",
    "Vocoded",
    "calibrate",
    "observe",
    "read_result",
    "refuse_findings",
]
