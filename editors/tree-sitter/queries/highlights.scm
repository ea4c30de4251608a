; Written by `python -m nasdsl.editor.treesitter`, with the words of the compiler's tables. What stands further down
; goes before what stands above.

(identifier) @variable
(comment) @comment
(string) @string
(number) @number
(unit) @type

["space" "operator" "fusion" "let" "param" "input" "require"] @keyword
["use" "with"] @keyword.import
["for" "repeat"] @keyword.repeat
["match" "if" "else"] @keyword.conditional
["and" "or" "not" "in" "implies" "x" "step"] @keyword.operator
["->" ".." "+" "-" "*" "/" "^" "==" "!=" "<=" ">=" "<" ">" "="] @operator
["(" ")" "[" "]" "{" "}"] @punctuation.bracket
["," ":" "."] @punctuation.delimiter

(incoming) @variable.builtin
(field name: (identifier) @property)
(named key: (identifier) @property)
(pin place: (identifier) @property)
(formal name: (identifier) @variable.parameter)
(bind name: (identifier) @variable.parameter)

(space name: (identifier) @type.definition)
(derived_space name: (identifier) @type.definition)
(derived_space base: (identifier) @type)
(operator name: (identifier) @function)
(fusion name: (identifier) @function)
(let name: (identifier) @variable)
(let name: (identifier) @function (formals))
(param name: (identifier) @constant)
(section kind: (identifier) @module)
(section name: (identifier) @type)

(call function: (identifier) @function.call)

(call function: (identifier) @constructor
  (#any-of? @constructor
    "adaptive_pool" "aspp" "attention_gate" "auxiliary" "avg_pool" "axial_attention" "basic" "bottleneck" "cascade"
    "channels" "class_token" "classify" "concat" "conv" "conv_transpose" "convnext_block" "deform_conv"
    "depth_to_space" "depthwise" "detach" "detect3d" "detect_dense" "detect_regions" "drop_path" "dropout"
    "factorized_reduce" "first_token" "flatten" "fpn" "gain" "gelu" "global_attention" "global_pool"
    "guided_anchor_rpn" "guided_propose" "h_sigmoid" "h_swish" "hard_sigmoid" "hard_swish" "hardsigmoid" "hardswish"
    "identity" "inverted_residual" "keypoints" "layer_norm" "layer_scale" "leaky_relu" "linear" "local_attention"
    "max_pool" "mbconv" "mean" "merge_patches" "mixconv" "mlp" "mobilenet_v2" "mobilenet_v2_stage" "norm"
    "patch_tokens" "patches" "pooled_shortcut" "position_embedding" "product" "propose" "pyramid_pool" "rcnn"
    "refine" "regress" "relu" "relu6" "relu_6" "resize" "resize_like" "resnet" "resnet_stage" "resnext"
    "resnext_stage" "retina" "roi_align" "rpn" "sample_regions" "se" "segment" "separable" "shift" "shuffle"
    "sigmoid" "silu" "skip" "space_to_depth" "sum" "swin_block" "swish" "tanh" "to_map" "to_tokens" "transformer"
    "two_layers" "upsample" "vit_block" "weighted_sum" "window_attention" "zero"))

(call function: (identifier) @function.builtin
  (#any-of? @function.builtin
    "auxiliary" "branches" "ceil" "concat" "count" "divisible" "extend" "floor" "fuse" "last" "length" "level_of"
    "manyof" "max" "mean" "min" "oneof" "parallel" "permute" "pick" "previous" "residual" "round" "sum" "take"
    "units"))

((identifier) @constant.builtin
  (#any-of? @constant.builtin
    "access" "false" "flops" "latency" "macs" "memory" "none" "params" "profiler_macs" "true"))

((identifier) @variable.builtin
  (#any-of? @variable.builtin
    "at" "branches" "earlier" "inputs" "regions" "unused"))

(section kind: (identifier) @keyword
  (#any-of? @keyword
    "defaults" "detector" "network" "published" "search" "train"))
