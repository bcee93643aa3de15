"""Two detectors look at one picture: boxes that overlap become one, weighted by their scores."""

from conjoin.fusion.boxes import weighted_boxes_fusion
from conjoin.outputs import Boxes

classes = ("cat", "dog")
one = Boxes([[10, 10, 50, 60], [70, 20, 90, 80]], [0.9, 0.4], [0, 1], [0, 2], classes)
other = Boxes([[12, 9, 52, 58]], [0.7], [0], [0, 1], classes)
fused = weighted_boxes_fusion({"one": one, "other": other}, weights={"one": 2, "other": 1}, iou_thr=0.55)
for box, score, code in zip(fused.coords, fused.scores, fused.codes, strict=True):
    print("weighted boxes fusion:", fused.classes[code], box.round(1).tolist(), round(float(score), 3))
