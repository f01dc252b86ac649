"""The other side of the preprocessing tests: torchvision.transforms on pictures.

Reads one JSON object a line and answers with one a line; pictures are base64 of [height][width][3] bytes in RGB.
  {"steps": "imagenet"|"tutorial"|"tensor", "size", "crop", "width", "height", "rgb"}  ->  {"shape", "data"}, float32
"""
import base64
import json
import sys
import warnings

import numpy
import torchvision.transforms as t
from PIL import Image

warnings.simplefilter("ignore")
NORMALIZE = t.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])

for line in sys.stdin:
    request = json.loads(line)
    size, crop = request["size"], request["crop"]
    rgb = numpy.frombuffer(base64.b64decode(request["rgb"]), numpy.uint8).reshape(request["height"], request["width"], 3)
    if request["steps"] == "imagenet":
        out = t.Compose([t.Resize(size), t.CenterCrop(crop), t.ToTensor(), NORMALIZE])(Image.fromarray(rgb))
    elif request["steps"] == "tutorial":
        # OpenCV's order of channels, never swapped; Resize of a tensor has no antialias unless asked.
        out = t.Compose([t.ToTensor(), t.Resize(size, antialias=False), NORMALIZE])(rgb[:, :, ::-1].copy())
    else:
        out = t.Compose([t.ToTensor(), t.Resize(size, antialias=True), t.CenterCrop(crop), NORMALIZE])(rgb.copy())
    data = out.contiguous().numpy()
    print(json.dumps({"shape": [1, *data.shape], "data": base64.b64encode(data.tobytes()).decode()}))
