"""Old import paths of the model code.

MLflow stores a model's code with the model and runs it when the model is loaded. The code of models that version 0.1
logged imports the three modules below from here.
"""

import sys

from eyegender.inference import raw_images
from eyegender.models import saved_network

sys.modules[f"{__name__}.pictures"] = raw_images
sys.modules[f"{__name__}.inference"] = saved_network
sys.modules[f"{__name__}.saved_network"] = saved_network
