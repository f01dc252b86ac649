"""The other side of the picture tests: what Pillow and OpenCV make of a picture.

Reads one JSON object a line and answers with one a line; pictures travel as base64 of [height][width][3] bytes.
  {"do": "resize", "library": "pil"|"cv2", "kernel", "width", "height", "to": [w, h], "rgb"}  ->  {"rgb"}
  {"do": "decode", "file"}                                                                   ->  {"width", "height", "rgb"}
"""
import base64
import io
import json
import sys

import cv2
import numpy
from PIL import Image, ImageOps

PIL_KERNELS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
CV2_KERNELS = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}


def resize(request):
    rgb = numpy.frombuffer(base64.b64decode(request["rgb"]), numpy.uint8).reshape(request["height"], request["width"], 3)
    size = tuple(request["to"])
    if request["library"] == "pil":
        out = numpy.asarray(Image.fromarray(rgb).resize(size, PIL_KERNELS[request["kernel"]]))
    else:
        out = cv2.resize(rgb, size, interpolation=CV2_KERNELS[request["kernel"]])
    return {"rgb": base64.b64encode(out.tobytes()).decode()}


def decode(request):
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(base64.b64decode(request["file"])))).convert("RGB")
    return {"width": picture.width, "height": picture.height, "rgb": base64.b64encode(picture.tobytes()).decode()}


for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(resize(request) if request["do"] == "resize" else decode(request)))
