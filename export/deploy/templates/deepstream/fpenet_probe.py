"""FPENet in DeepStream: what nvinfer gives for each face becomes points, and is drawn.

    python3 fpenet_probe.py file:///video.mp4 PGIE.txt SGIE.txt

runs a detector and FPENet. In a pipeline of your own, `Probes().attach(sgie)` does the same around FPENet's nvinfer.
Needs DeepStream's Python bindings (pyds 1.1 to 1.2, DeepStream 7 and 8) and numpy; fpenet_probe.json lies beside it.

nvinfer stretches the object's box to the network's input, and never reaches beyond the frame. Before FPENet each box is
therefore made the square that the network was trained on, moved into the frame where it sticks out; afterwards the
detector's box is put back. Points are pixels of the frame, the first pixel's centre being (0, 0).
"""

import ctypes
import json
import math
import sys
from pathlib import Path

import numpy as np

SGIE = 2  # FPENet's gie-unique-id
MOST_CIRCLES = 16  # that one display meta holds


def square(box, crop):
    """The square that the network wants to see around a detector's box (x1, y1, x2, y2): x1, y1, side."""
    x1, y1, x2, y2 = box
    if crop["beyond_points"]:  # trained on the box of the points, from brows to chin
        left, top, right, bottom = crop["beyond_points"]
        width, height = (x2 - x1) / (1 - left + right), (y2 - y1) / (1 - top + bottom)
        x1, y1, x2, y2 = x1 - left * width, y1 - top * height, x2 - right * width, y2 - bottom * height
    longer = max(x2 - x1, y2 - y1)
    side = longer * crop["enlarge"]
    return (x1 + x2 - side) / 2 + crop["shift_x"] * longer, (y1 + y2 - side) / 2 + crop["shift_y"] * longer, side


def inside(wanted, width, height):
    """That square within a frame: left, top, side. Moved in where it sticks out, made smaller only where the frame is.

    Even numbers, because nvinfer rounds to such.
    """
    x1, y1, side = wanted
    side = max(2 * min(round(side / 2), width // 2, height // 2), 2)
    left, top = (2 * min(max(round(low / 2), 0), (length - side) // 2) for low, length in ((x1, width), (y1, height)))
    return left, top, side


def seen(left, top, width, height):
    """What nvinfer cuts out of a rectangle, whole and even: left, top, width, height."""
    return 2 * math.ceil(int(left) / 2), 2 * math.ceil(int(top) / 2), int(width) // 2 * 2, int(height) // 2 * 2


def to_frame(points, rectangle, size):
    """Points [K, 2] in pixels of the network's input -> pixels of the frame."""
    left, top, width, height = seen(*rectangle)
    return (points + 0.5) * (np.array([width, height]) / size) + (left, top) - 0.5


def listed(items, cast):
    """The members of one of DeepStream's lists."""
    while items is not None:
        try:
            yield cast(items.data)
            items = items.next
        except StopIteration:
            return


class Probes:
    """The two probes around FPENet's nvinfer.

    Args:
        on_points: called for each face as on_points(frame_meta, object_meta, points [K, 2], confidence [K]).
        face: class of the detector's objects that FPENet looks at; None: all.
    """

    def __init__(self, on_points=None, face=None):
        import pyds

        self.pyds, self.on_points, self.face = pyds, on_points, face
        self.facts = json.loads(Path(__file__).with_name("fpenet_probe.json").read_text())

    def attach(self, sgie):
        """Adds both to FPENet's nvinfer element."""
        from gi.repository import Gst

        for name, probe in (("sink", self.before), ("src", self.after)):

            def call(pad, info, run=probe):
                run(self.pyds.gst_buffer_get_nvds_batch_meta(hash(info.get_buffer())))
                return Gst.PadProbeReturn.OK

            sgie.get_static_pad(name).add_probe(Gst.PadProbeType.BUFFER, call)

    def _faces(self, batch):
        for frame in listed(batch.frame_meta_list, self.pyds.NvDsFrameMeta.cast):
            for found in listed(frame.obj_meta_list, self.pyds.NvDsObjectMeta.cast):
                if self.face is None or found.class_id == self.face:
                    yield frame, found

    def before(self, batch):
        """Makes the faces' boxes the squares that FPENet is to see."""
        for frame, found in self._faces(batch):
            rect = found.rect_params
            box = (rect.left, rect.top, rect.left + rect.width, rect.top + rect.height)
            square_box = inside(square(box, self.facts["crop"]), frame.pipeline_width, frame.pipeline_height)
            rect.left, rect.top, rect.width, rect.height = map(float, (*square_box, square_box[2]))

    def after(self, batch):
        """Draws the points of every face, and puts the detector's box back."""
        for frame, found in self._faces(batch):
            rect = found.rect_params
            rectangle = rect.left, rect.top, rect.width, rect.height
            before = found.detector_bbox_info.org_bbox_coords
            rect.left, rect.top, rect.width, rect.height = before.left, before.top, before.width, before.height
            tensors = self._tensors(found)
            if tensors is None:
                continue  # too small for nvinfer's input-object-min-width
            points = to_frame(tensors["points"], rectangle, self.facts["crop"]["size"])
            self._draw(batch, frame, points, max(round(rectangle[2] / 80), 1))
            if self.on_points:
                self.on_points(frame, found, points, tensors["confidence"])

    def _tensors(self, found):
        """FPENet's outputs for an object, by what they are; None without any."""
        pyds = self.pyds
        for user in listed(found.obj_user_meta_list, pyds.NvDsUserMeta.cast):
            if user.base_meta.meta_type != pyds.NvDsMetaType.NVDSINFER_TENSOR_OUTPUT_META:
                continue
            meta = pyds.NvDsInferTensorMeta.cast(user.user_meta_data)
            if meta.unique_id != SGIE:
                continue
            layers = [pyds.get_nvds_LayerInfo(meta, i) for i in range(meta.num_output_layers)]
            named = {layer.layerName: layer for layer in layers}
            return {
                role: self._array(named[output["name"]], output["shape"])
                for role, output in self.facts["outputs"].items()
            }
        return None

    def _array(self, layer, shape):
        pointer = ctypes.cast(self.pyds.get_ptr(layer.buffer), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape=tuple(shape)).copy()

    def _draw(self, batch, frame, points, radius):
        for start in range(0, len(points), MOST_CIRCLES):
            part = points[start : start + MOST_CIRCLES]
            display = self.pyds.nvds_acquire_display_meta_from_pool(batch)
            display.num_circles = len(part)
            for i, (x, y) in enumerate(part):
                circle = display.circle_params[i]
                circle.xc = min(max(round(float(x)), 0), frame.pipeline_width - 1)
                circle.yc = min(max(round(float(y)), 0), frame.pipeline_height - 1)
                circle.radius = radius
                circle.circle_color.set(0.2, 1.0, 0.3, 1.0)
            self.pyds.nvds_add_display_meta_to_frame(frame, display)


def main():
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import GLib, Gst

    if len(sys.argv) != 4:
        sys.exit(__doc__)
    Gst.init(None)
    pipeline = Gst.parse_launch(
        "nvstreammux name=mux batch-size=1 width=1920 height=1080 batched-push-timeout=40000 "
        f"! nvinfer config-file-path={sys.argv[2]} ! nvinfer name=fpenet config-file-path={sys.argv[3]} "
        f"! nvvideoconvert ! nvdsosd ! nveglglessink sync=0  nvurisrcbin uri={sys.argv[1]} ! mux.sink_0"
    )
    Probes().attach(pipeline.get_by_name("fpenet"))
    loop, bus = GLib.MainLoop(), pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message::eos", lambda *_: loop.quit())
    bus.connect("message::error", lambda _, message: (print(message.parse_error(), file=sys.stderr), loop.quit()))
    pipeline.set_state(Gst.State.PLAYING)
    try:
        loop.run()
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
