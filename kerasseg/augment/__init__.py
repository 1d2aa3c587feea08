"""What happens to samples between the disk and the network.

A sample is a dictionary with "image" [H, W, C] and any of "mask", "weight" and "instances" [H, W]; they always move
together. There are two ways to vary one:

`Augmentation` holds ranges. `draw_plan` draws a sample's parameters from them, once, and `render` (TensorFlow ops) or
`render_cv` (OpenCV, several times as fast) carries the plan out: one resampling, one map of the colours. `apply` does
both.

The single operations, for functions of your own: most with their parameters given (`rescale(sample, 1.5)`) and drawn
at random from a seed (`random_rescale(sample, seed)`), as TensorFlow ops; those that end in `_cv` are NumPy and OpenCV.

The border weights are NumPy and belong into the conversion of a data set.
"""

from kerasseg.augment._augmentation import Augmentation, ColourRange, Cutout, GreyRange, GridElastic, SimardElastic
from kerasseg.augment._blur import gaussian_blur, gaussian_blur_cv
from kerasseg.augment._border_weights import border_weights, fiji_border_weights
from kerasseg.augment._colour import COLOUR_ORDERS, distort_colour, vary_grey
from kerasseg.augment._colour_affine import ColourMap, apply_colour_map, apply_colour_map_cv, colour_map
from kerasseg.augment._draw import draw_plan, draw_plans, draw_view
from kerasseg.augment._elastic import (
    grid_displacement,
    grid_displacement_cv,
    simard_displacement,
    simard_displacement_cv,
)
from kerasseg.augment._geometry import (
    IMAGENET_MEAN,
    MAP_FILL,
    Sample,
    centre_crop,
    crop_or_pad,
    flip,
    mean_pixel,
    rescale,
    resize,
    rotate90,
)
from kerasseg.augment._objects import choose_proposal, iou, jittered_box, keep_class, object_window, rim_targets
from kerasseg.augment._pixels import (
    cutout,
    cutout_cv,
    gaussian_noise,
    gaussian_noise_cv,
    window_values,
    window_values_cv,
)
from kerasseg.augment._plan import Plan, Warp
from kerasseg.augment._random import (
    random_colour,
    random_crop,
    random_flip,
    random_grey,
    random_rescale,
    random_rotate90,
)
from kerasseg.augment._render import apply, render
from kerasseg.augment._render_cv import render_cv
from kerasseg.augment._warp import BORDERS, warp, warp_cv

__all__ = [
    "Augmentation",
    "BORDERS",
    "COLOUR_ORDERS",
    "ColourMap",
    "ColourRange",
    "Cutout",
    "GreyRange",
    "GridElastic",
    "IMAGENET_MEAN",
    "MAP_FILL",
    "Plan",
    "Sample",
    "SimardElastic",
    "Warp",
    "apply",
    "apply_colour_map",
    "apply_colour_map_cv",
    "border_weights",
    "centre_crop",
    "choose_proposal",
    "colour_map",
    "crop_or_pad",
    "cutout",
    "cutout_cv",
    "distort_colour",
    "fiji_border_weights",
    "flip",
    "gaussian_blur",
    "gaussian_blur_cv",
    "gaussian_noise",
    "gaussian_noise_cv",
    "grid_displacement",
    "grid_displacement_cv",
    "iou",
    "jittered_box",
    "keep_class",
    "mean_pixel",
    "object_window",
    "draw_plan",
    "draw_plans",
    "draw_view",
    "random_colour",
    "random_crop",
    "random_flip",
    "random_grey",
    "random_rescale",
    "random_rotate90",
    "render",
    "render_cv",
    "rescale",
    "resize",
    "rim_targets",
    "rotate90",
    "simard_displacement",
    "simard_displacement_cv",
    "vary_grey",
    "warp",
    "warp_cv",
    "window_values",
    "window_values_cv",
]
